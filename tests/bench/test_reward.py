import json
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.bench.reward import LENGTH, OURS, PAIRS, PEERS, TURNS, Trainer, bench_reward, comparisons, table
from rlhf_control.bench.reward_peer import BATCH, STEPS
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError


def runs(*seconds: float) -> list[dict[str, float]]:
    return [{"seconds": 2 * s, "train_seconds": s, "refits": 2, "pairs": 1000, "accuracy": 0.75} for s in seconds]


def test_the_table_by_hand() -> None:
    trainers = {
        name: {"versions": {"torch": "9", name[:4]: "1"}, "runs": runs(*seconds)}
        for name, seconds in ((OURS[1], (0.1, 0.1, 0.1)), (OURS[5], (0.5, 1, 0.25)), (PEERS[3], (10, 10, 10)))
    }
    result = {"trainers": trainers, "choosing": [0.01, 0.03, 0.02],
              "steps": 200, "batch": 25, "pairs": 100, "length": 50, "hidden": [64, 64],
              "cores": 2, "processor": "a chip", "python": "3"}  # fmt: skip
    lines = table(result).splitlines()
    assert lines[2] == f"| {OURS[1]} | 10,000 |  | 0.10 |  | 0.75 |"
    assert lines[3] == f"| {OURS[5]} | 2,000 |  | 0.50 |  | 0.75 |"
    assert lines[4] == f"| {PEERS[3]} | 100 | **20.0** (10.0 to 40.0) | 10.00 | **20.0** (10.0 to 40.0) | 0.75 |"
    assert "200 gradient steps of 25 pairs" in lines[6] and "64x64" in lines[6] and "2 cores" in lines[6]
    assert "torch 9, ours 1; torch 9, imit 1" in lines[6]
    assert lines[8].endswith("2,000 candidate pairs of 400 clips by disagreement: 20 ms (median of 3)")


def test_the_comparisons() -> None:
    """Twice as many as are learned from, no clip in two of them, whole epochs for imitation."""
    data = comparisons()
    assert data["obs"].shape == data["next_obs"].shape == (2 * PAIRS, 2, LENGTH, 17)
    assert data["action"].shape == (2 * PAIRS, 2, LENGTH, 6) and set(data["first"]) == {0.0, 1.0}
    np.testing.assert_array_equal(data["obs"][:, :, 1:], data["next_obs"][:, :, :-1])
    assert len(np.unique(data["obs"][:, :, 0].reshape(-1, 17), axis=0)) == 4 * PAIRS
    assert PAIRS % BATCH == 0 and STEPS * BATCH % PAIRS == 0


def test_a_bench_of_ours_alone(tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    text = bench_reward(BenchConfig("reward", runs=1, seconds=0.01, out=str(out)))
    assert len(json.loads(out.read_text())["choosing"]) == TURNS and " ms (median" in text
    assert "| ours, ensemble of 5 |" in text and "--imitation-python" in text
    for trainer in json.loads(out.read_text())["trainers"].values():
        assert len(trainer["runs"]) == 1 and trainer["warm_up_seconds"] > 0
        for run in trainer["runs"]:
            assert run["pairs"] == run["refits"] * STEPS * BATCH and 0.8 < run["accuracy"] <= 1
            assert 0 < run["train_seconds"] < run["seconds"]


def test_an_interpreter_without_imitation_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", first=np.zeros(2))
    with pytest.raises(UserError, match=r"imitation, one network could not be timed: .*python: No such file"):
        Trainer("imitation, one network", "/nowhere/python", "imitation", 1, tmp_path / "data.npz")
