import os
import shutil
import signal
from collections.abc import Container
from pathlib import Path

import pytest

from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.errors import Halted, Stopped, UserError
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.run import LOCK, Run
from tests.runs.counter import Counter

CONFIG = PretrainConfig("X", total_steps=1000, checkpoint_seconds=1e9, ppo=PPOConfig(num_envs=10, num_steps=10))


def go(
    run: Run, *, stop_at: int | None = None, signum: int = signal.SIGTERM, save_before: Container[int] = ()
) -> int:  # fmt: skip
    counter = Counter()
    with Loop(run, {"counter": counter}, CONFIG, save_before=save_before) as loop:
        for iteration, log in loop:
            counter.n += 1
            log["n"] = counter.n
            if iteration == stop_at:
                os.kill(os.getpid(), signum)
    return counter.n


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "pretrain", PretrainConfig("X"))


def test_rows_and_last_checkpoint(run: Run) -> None:
    assert go(run) == 10
    rows = run.metrics()
    assert [(r["iteration"], r["env_steps"], r["n"]) for r in rows] == [(i, 100 * (i + 1), i + 1) for i in range(10)]
    assert all(r["wall_seconds"] > 0 and r["steps_per_second"] > 0 for r in rows)
    assert run.load_checkpoint()[0] == 10


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_a_resume_goes_on(run: Run, signum: int, code: int, last: bool) -> None:
    with pytest.raises(Stopped, match="resume") as stopped:
        go(run, stop_at=9 if last else 3, signum=signum)
    assert stopped.value.exit_code == code
    assert run.load_checkpoint()[0] == (10 if last else 4)
    assert go(Run.open(run.path)) == 10
    assert [r["iteration"] for r in run.metrics()] == list(range(10))


def test_an_error_leaves_the_last_checkpoint(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), Loop(run, {"counter": Counter()}, CONFIG) as loop:
        for iteration, _ in loop:
            1 / (3 - iteration)
    assert run.load_checkpoint()[0] == 0


def test_a_halt_saves_and_a_resume_goes_on(run: Run) -> None:
    counter = Counter()
    with pytest.raises(Halted, match="enough") as halted, Loop(run, {"counter": counter}, CONFIG) as loop:
        for iteration, _ in loop:
            counter.n += 1
            loop.halt = Halted("enough") if iteration == 3 else None
    assert halted.value.exit_code == 3 and run.load_checkpoint()[0] == 4 == len(run.metrics())
    assert go(Run.open(run.path)) == 10


def test_resuming_a_finished_run_does_nothing(run: Run) -> None:
    go(run)
    assert go(Run.open(run.path)) == 10
    assert len(run.metrics()) == 10


def test_a_run_that_died_before_its_first_checkpoint_starts_again(run: Run) -> None:
    run.log({"iteration": 0})
    run.unlock()  # as its end does
    assert go(Run.open(run.path)) == 10
    assert len(run.metrics()) == 10


def test_a_checkpoint_before_a_long_iteration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = Run.save_checkpoint
    monkeypatch.setattr(Run, "save_checkpoint", lambda self, i, state: saved.append(i) or save(self, i, state))
    go(run, save_before=(0, 3, 7))
    assert saved == [0, 3, 7, 10]


def test_a_long_iteration_can_be_left_and_is_done_again(run: Run) -> None:
    begun, counter = [], Counter()
    with pytest.raises(Stopped, match="resume"), Loop(run, {"counter": counter}, CONFIG, save_before=(5,)) as loop:
        loop.before_iteration.append(begun.append)
        for iteration, _ in loop:
            counter.n += 1
            if iteration == 5:
                loop.stop_if_asked()
                os.kill(os.getpid(), signal.SIGINT)
                loop.stop_if_asked()
    assert begun == [0, 1, 2, 3, 4, 5]
    assert run.load_checkpoint()[0] == 5
    assert go(Run.open(run.path)) == 10


def moving(run: Run, there: Path, at: int, error: Exception | None = None) -> None:
    """A run whose folder is moved in the middle of an iteration."""
    counter = Counter()
    with Loop(run, {"counter": counter}, CONFIG) as loop:
        for iteration, _ in loop:
            counter.n += 1
            if iteration == at:
                run.path.rename(there)
                if error:
                    raise error


def test_a_run_whose_folder_is_moved_is_saved_where_it_is_now(run: Run, tmp_path: Path) -> None:
    before, there = run.path, tmp_path / "elsewhere"
    with pytest.raises(UserError, match=rf"run was moved to {there} .* is saved there: rlhf-control resume {there}"):
        moving(run, there, 3)
    assert not before.exists() and len(Run.open(there).metrics()) == 4
    assert Run.open(there).load_checkpoint()[0] == 4 and go(Run.open(there)) == 10


def test_whatever_ends_a_moved_run_the_move_is_said(run: Run, tmp_path: Path) -> None:
    before, there = run.path, tmp_path / "elsewhere"
    with pytest.raises(UserError, match=r"was moved to .* from its last checkpoint there"):
        moving(run, there, 3, UserError("unable to open the database"))
    assert not before.exists() and go(Run.open(there)) == 10


def test_a_run_whose_folder_is_removed_makes_no_other(run: Run, tmp_path: Path) -> None:
    counter, path = Counter(), run.path
    with pytest.raises(UserError, match="moved or removed"), Loop(run, {"counter": counter}, CONFIG) as loop:
        for _ in loop:
            shutil.rmtree(path)
    assert not path.exists()


def test_two_never_work_on_one_run(run: Run) -> None:
    run.unlock()
    again = Run.open(run.path)
    with Loop(run, {"counter": Counter()}, CONFIG):
        (run.path / "copy").write_bytes((run.path / "config.json").read_bytes())
        os.replace(run.path / "copy", run.path / "config.json")  # as an editor or a synchroniser does
        for _ in range(2):
            with pytest.raises(UserError, match="another process is working on"):
                again.lock()
            (run.path / LOCK).unlink(missing_ok=True)
    again.lock()
    again.unlock()
