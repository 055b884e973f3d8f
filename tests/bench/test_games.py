import json
from pathlib import Path

import pytest

from rlhf_control.bench import games
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError


def test_every_view_is_timed_and_the_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(games, "OURS", {"bricks-state": 8, "bricks-pixels": 4, "orchard-planes": 4})
    said = games.bench_games(BenchConfig("games", runs=2, seconds=0.02, out=str(tmp_path / "out.json")))
    assert "orchard-planes | 4" in said and "--games-python" in said
    result = json.loads((tmp_path / "out.json").read_text())
    for game in result["games"].values():
        assert all(run["steps"] > 0 and run["seconds"] >= 0.02 for run in game["runs"]) and len(game["runs"]) == 2


def test_peers_stand_beside_our_pixels() -> None:
    runs = {"bricks-pixels": [400.0, 200.0], "ale": [10.0, 20.0]}
    timed = {
        name: {"version": "1", "num_envs": 4, "runs": [{"steps": s, "seconds": 1.0} for s in speeds]}
        for name, speeds in runs.items()
    }
    said = games.table({"games": timed, "processor": "any", "python": "3"})
    assert "| ale 1 | 4 | 15 (10 to 20) | **25.0** (10.0 to 40.0) |" in said


def test_a_peer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="turbo could not be timed"):
        games.Stepper("turbo", str(tmp_path / "python"), 4)
