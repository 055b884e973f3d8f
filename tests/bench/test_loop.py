import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.bench import loop
from rlhf_control.config import FinetuneConfig
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError
from rlhf_control.training.continuing import hyperparameters


def test_both_builds_are_timed_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[str, int]] = []
    other = tmp_path / "other"

    def time_it(tree: Path, steps: int) -> dict[str, Any]:
        timed.append((tree.name, steps))
        return {"seconds": 2.0 if tree == other else 1.0, "sha256": "a"}

    monkeypatch.setattr(loop, "timed", time_it)
    monkeypatch.setattr(loop, "checked_out", lambda commit, folder: other)
    text = loop.bench_loop(BenchConfig("loop", runs=2, against="HEAD", out=str(tmp_path / "out.json")))
    assert "| HEAD | 2.0 | 2.00 (2.00 to 2.00) | yes |" in text
    ours = loop.HERE.name
    assert timed == [(ours, loop.WARM_UP), ("other", loop.WARM_UP)] + [
        (name, loop.STEPS) for name in (ours, "other", "other", ours)
    ]
    assert len(json.loads((tmp_path / "out.json").read_text())["turns"]["HEAD"]) == 2


def test_imitation_stands_beside_this_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def say(name: str, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
        asked.append(command)
        return {"seconds": 100.0}

    monkeypatch.setattr(loop, "timed", lambda tree, steps: {"seconds": 4.0, "sha256": "a"})
    monkeypatch.setattr(loop, "said", say)
    text = loop.bench_loop(BenchConfig("loop", runs=2, imitation_python="python3", out=str(tmp_path / "out.json")))
    assert "| imitation 1.0.1 | 100.0 | 1,000 | 25.0 (25.0 to 25.0) |" in text
    assert asked == 2 * [["python3", loop.loop_peer.__file__, "100000", "100"]]
    assert len(json.loads((tmp_path / "out.json").read_text())["peers"]["imitation 1.0.1"]) == 2


def test_warming_up_has_room_for_all_label_rounds() -> None:
    config, ppo = FinetuneConfig("halfcheetah"), hyperparameters("halfcheetah")
    assert config.label_until * (loop.WARM_UP // (ppo.num_envs * ppo.num_steps)) >= config.rounds


def test_other_weights_are_told() -> None:
    turns = {name: [{"seconds": 1.0, "sha256": name}] for name in ("this build", "old")}
    assert "| old | 1.0 | 1.00 (1.00 to 1.00) | no |" in loop.table(turns)


def test_what_cannot_be_built_or_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no build of nothing"):
        loop.checked_out("nothing", tmp_path)
    (tmp_path / "rlhf_control").mkdir()
    (tmp_path / "rlhf_control" / "__init__.py").write_text("raise ValueError('broken')")
    with pytest.raises(UserError, match="could not be timed: ValueError: broken"):
        loop.timed(tmp_path, 1)
    with pytest.raises(UserError, match="imitation could not be timed: /no/python: No such file"):
        loop.said("imitation", ["/no/python"], {})


def test_a_build_is_the_files_of_its_commit(tmp_path: Path) -> None:
    try:
        tree = loop.checked_out("HEAD", tmp_path / "build")
    except UserError as error:  # not in a checkout
        pytest.skip(str(error))
    listed = subprocess.run(["git", "-C", str(loop.HERE), "show", "HEAD:rlhf_control/train.py"], capture_output=True)
    assert (tree / "rlhf_control" / "train.py").read_bytes() == listed.stdout
