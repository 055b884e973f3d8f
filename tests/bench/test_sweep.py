import json
from pathlib import Path

import pytest

from rlhf_control.bench import sweep
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.pool import Ended, RunCell


class Listed:
    """A pool that does nothing, but ends what it was given."""

    def __init__(self, why: str = "") -> None:
        self.given: list[RunCell] = []
        self.told: list[RunCell] = []
        self.why = why

    def __enter__(self) -> "Listed":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def room(self) -> bool:
        return not self.given

    def start(self, cell: RunCell) -> None:
        self.given.append(cell)
        self.told.append(cell)

    def ended(self) -> list[Ended]:
        ended, self.given = self.given, []
        return [Ended(cell, self.why, "failed" if self.why else "done") for cell in ended]


def test_both_pools_are_timed_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Listed] = []
    monkeypatch.setattr(sweep, "POOLS", {name: lambda: pools.append(Listed()) or pools[-1] for name in sweep.POOLS})
    text = sweep.bench_sweep(BenchConfig("sweep", runs=2, out=str(tmp_path / "out.json")))
    assert "| our own pool |" in text and "| Ray |" in text and len(pools) == 4
    timed = [cell.name for cell in pools[0].told if cell.name.startswith("timed")]
    assert timed == [f"timed-{i}" for i in range(sweep.RUNS)] == [c.name for c in pools[3].told][-sweep.RUNS :]
    assert [len(s) for s in json.loads((tmp_path / "out.json").read_text())["seconds"].values()] == [2, 2]


def test_the_table_by_hand() -> None:
    text = sweep.table({"our own pool": [10.0, 20.0], "Ray": [11.0, 20.0]})
    assert "| our own pool | 15.0 |  |" in text and "| Ray | 15.5 | 1.05 (1.00 to 1.10) |" in text


def test_a_sweep_that_fails_is_not_timed() -> None:
    with pytest.raises(UserError, match="could not be timed: no luck"):
        sweep.time_pool(lambda: Listed("no luck"))


def test_a_run_of_it_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "STEPS", 2048)
    (cell,) = sweep.cells(tmp_path / "x", 1)
    assert sweep.train(cell.config) == 0 and Run(tmp_path / "x-0").finished()  # type: ignore[arg-type]
