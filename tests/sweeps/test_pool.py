import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import Stopped
from rlhf_control.sweeps.pool import Ended, LocalPool, RunCell, cores_for, reason, run_cells


def write_pid(config: PretrainConfig) -> int:
    """Stands for a run: leaves the process's number, and ends as its seed says."""
    out = Path(config.out)
    out.mkdir(exist_ok=True)
    (out / "pid").write_text(str(os.getpid()))
    if config.seed == 1:
        print("rlhf-control: no such thing")
        return 2
    if config.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 3:
        raise ValueError("a fault")
    if config.seed == 4:
        signal.pause()
    return 0


def cells(tmp_path: Path, *seeds: int) -> list[RunCell]:
    config = PretrainConfig("CartPole-v1")
    return [RunCell(f"{i}", replace(config, seed=seed, out=str(tmp_path / f"{i}"))) for i, seed in enumerate(seeds)]


def pids(tmp_path: Path) -> list[str]:
    return [(tmp_path / f"{i}" / "pid").read_text() for i in range(len(list(tmp_path.glob("*/pid"))))]


def test_a_process_does_one_cell_after_the_other_until_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[tuple[int, int, int]] = []
    with LocalPool(write_pid, cores_for(1)) as pool:
        failed = run_cells(pool, cells(tmp_path, 0, 0, 1, 2, 3, 0, 0), lambda *counts: shown.append(counts))
    assert list(failed) == ["2", "3", "4"] and shown[-1] == (4, 0, 3)
    assert failed["2"].startswith("no such thing") and failed["3"].startswith("killed by SIGKILL")
    assert failed["4"].startswith("ValueError: a fault") and "2 failed: no such thing" in capsys.readouterr().err
    by = pids(tmp_path)
    assert by[0] == by[1] == by[2] and by[5] == by[6] and len(set(by)) == 4
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["2.log", "3.log", "4.log"]


def test_a_cell_that_is_told_to_stop_has_not_failed(tmp_path: Path) -> None:
    one, other = cells(tmp_path, 4, 4)
    with LocalPool(write_pid, cores_for(1)) as pool:
        for cell in (one, other):  # the first process is gone, and another takes its place
            assert pool.room()
            pool.start(cell)
            assert not pool.room()
            while not (Path(cell.config.out) / "pid").is_file():
                assert not pool.ended()
            pool.stop(cell)
            ended: list[Ended] = []
            while not ended:
                ended = pool.ended()
            assert ended == [(cell, "", "stopped")]
    assert not list(tmp_path.glob("*.log"))


def test_a_signal_is_passed_on_and_nothing_more_begins(tmp_path: Path) -> None:
    sent: list[int] = []

    def show(done: int, running: int, failed: int) -> None:
        if len(list(tmp_path.glob("*/pid"))) == 2 and not sent:
            sent.append(signal.SIGINT)  # a second one would end this process
            os.kill(os.getpid(), signal.SIGINT)

    with LocalPool(write_pid, cores_for(2)) as pool, pytest.raises(Stopped, match="same command"):
        run_cells(pool, cells(tmp_path, 4, 4, 0), show)
    assert len(list(tmp_path.glob("*/pid"))) == 2


class Struck(LocalPool):
    """Gets a signal that goes to its whole process group, by which its worker ends before this process looks at it."""

    def ended(self) -> list[Ended]:
        for worker in self._workers.values():
            assert os.getpgid(worker.process.pid or 0) == os.getpgid(0)  # it is still starting
            os.kill(worker.process.pid or 0, signal.SIGTERM)
            worker.process.join()
        os.kill(os.getpid(), signal.SIGTERM)
        return super().ended()


def test_a_signal_to_the_whole_group_fails_no_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Struck(write_pid, cores_for(1)) as pool, pytest.raises(Stopped):
        run_cells(pool, cells(tmp_path, 0, 0), lambda *counts: None)
    assert "failed" not in capsys.readouterr().err and not list(tmp_path.glob("*/pid"))


def test_the_terminals_ctrl_c_does_not_reach_a_process_that_starts(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, 0)
    with LocalPool(write_pid, cores_for(1)) as pool:
        pool.start(cell)
        os.kill(pool._workers[0].process.pid or 0, signal.SIGINT)
        ended: list[Ended] = []
        while not ended:
            ended = pool.ended()
    assert ended == [(cell, "", "done")]


def test_the_stated_reason_is_the_true_one(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert reason(-11, out) == f"killed by SIGSEGV (see {out}.log)"
    assert reason(-63, out) == f"killed by signal 63 (see {out}.log)"
    assert "exit code 3" in reason(3, out)
    Path(f"{out}.log").write_text("Warning: x\nrlhf-control: labels is -1\nValueError: y\n")
    assert reason(2, out) == f"labels is -1 (see {out}.log)" and reason(1, out) == f"ValueError: y (see {out}.log)"
