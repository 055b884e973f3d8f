import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.run import KEEP_CHECKPOINTS, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "pretrain", PretrainConfig("HalfCheetah-v5", seed=3))


def test_manifest_and_config(run: Run) -> None:
    manifest = run.read_json("manifest.json")
    assert manifest["seed"] == 3
    assert {"threads", "git_commit", "versions", "python", "cores", "started"} <= manifest.keys()
    assert run.read_json("config.json")["config"]["env_id"] == "HalfCheetah-v5"


def test_what_matters_of_a_run_is_seen_at_once(run: Run) -> None:
    assert repr(run) == f"Run({run.path}, pretrain HalfCheetah-v5, 0 of 1,000,000 steps)"
    run.log({"iteration": 0, "env_steps": 2048, "env_return": -1.25, "score": None})
    assert repr(run) == f"Run({run.path}, pretrain HalfCheetah-v5, 2,048 of 1,000,000 steps, return -1.25)"
    assert repr(Run(Path("nowhere"))) == "Run(nowhere)"


def test_an_existing_folder_is_not_written_over(run: Run) -> None:
    with pytest.raises(UserError, match="exists"):
        Run.create(run.path, "pretrain", PretrainConfig("HalfCheetah-v5"))


def test_metrics_survive_a_crash_in_the_middle_of_a_row(run: Run) -> None:
    run.log({"iteration": 0, "x": 1.0})
    run.log({"iteration": 1, "x": float("nan")})
    with open(run.metrics_path, "a") as file:
        file.write('{"iteration": 2, "x"')
    assert run.metrics() == [{"iteration": 0, "x": 1.0}, {"iteration": 1, "x": None}]
    run.rewind_metrics(1)
    assert [json.loads(line) for line in run.metrics_path.read_text().splitlines()] == [{"iteration": 0, "x": 1.0}]


def test_damage_in_the_middle_of_the_metrics_is_named(run: Run) -> None:
    run.metrics_path.write_text('{"iteration": 0}\nrubbish\n{"iteration": 2}\n')
    with pytest.raises(CorruptFileError, match="line 2"):
        run.metrics()


def test_the_newest_whole_checkpoint_counts(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        run.save_checkpoint(i, {"x": np.array([i])})
    assert len(list((run.path / "checkpoints").iterdir())) == KEEP_CHECKPOINTS
    newest = run.checkpoint_path(4)
    newest.write_bytes(newest.read_bytes()[:-100])
    iteration, state = run.load_checkpoint()
    assert iteration == 3 and state["x"] == [3]
    assert "00000004.npz" in capsys.readouterr().err
    again = run.checkpoint_path(3)
    again.write_bytes(again.read_bytes()[:-100])
    with pytest.raises(UserError, match="no whole checkpoint"):
        run.load_checkpoint()


def test_before_the_first_checkpoint_there_is_nothing_to_load(run: Run) -> None:
    assert run.load_checkpoint() == (0, {})


def test_wall_seconds_go_on_after_a_resume(run: Run) -> None:
    run._started -= 100
    run.save_checkpoint(0, {})
    again = Run.open(run.path)
    again.load_checkpoint()
    assert 100 <= again.wall_seconds() < 110


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run's folder"):
        Run.open(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_loop(signum: int) -> None:
    before = signal.getsignal(signum)
    with deferred_signals() as caught:
        os.kill(os.getpid(), signum)
        assert caught == [signum]
    assert signal.getsignal(signum) == before


def test_the_second_signal_exits_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130


def test_last_metrics_is_the_newest_whole_row(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("CartPole-v1"))
    assert run.last_metrics() is None
    for i in range(2000):
        run.log({"iteration": i, "env_steps": i, "padding": "x" * 100})
    with open(run.metrics_path, "a") as file:
        file.write('{"iteration": 2000, "env_st')  # cut off by a crash
    last = run.last_metrics()
    assert last is not None and last["env_steps"] == 1999


def test_a_folder_whose_making_was_killed_can_be_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.123.tmp").write_text('{"verb": "pre')
    (folder / "manifest.json").write_text('{"git_commit": "unknown"}')
    Run.create(folder, "pretrain", PretrainConfig("CartPole-v1"))
    assert Run.open(folder).config()[1] == PretrainConfig("CartPole-v1")
    with pytest.raises(UserError, match="exists"):
        Run.create(folder, "pretrain", PretrainConfig("CartPole-v1"))


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_links_and_pipes_in_the_place_of_its_files_end_in_one_line(run: Run, tmp_path: Path, what: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("work of years")
    run.unlock()

    def put(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(precious) if what == "link" else os.mkfifo(path)

    uses: dict[str, list[Callable[[], object]]] = {
        "metrics.jsonl": [lambda: run.log({"iteration": 0}), run.metrics, lambda: run.save_checkpoint(0, {})],
        "config.json": [run.config],
        "manifest.json": [lambda: run.read_json("manifest.json")],
        "run.lock": [run.lock],
    }
    for name, doings in uses.items():
        put(run.path / name)
        for do in doings:
            with pytest.raises(UserError, match="a symbolic link" if what == "link" else "a pipe"):
                do()
    assert run.last_metrics() is None and precious.read_text() == "work of years"


def test_checkpoints_of_another_run_are_not_taken_for_its_own(run: Run, tmp_path: Path) -> None:
    other = Run.create(tmp_path / "other", "pretrain", PretrainConfig("CartPole-v1"))
    for i in range(2):
        other.save_checkpoint(i, {})
    (run.path / "checkpoints").symlink_to(other.path / "checkpoints")
    with pytest.raises(UserError, match="checkpoints is a symbolic link"):
        run.save_checkpoint(7, {})
    assert len(list((other.path / "checkpoints").iterdir())) == 2


STARTS = """
import sys, time
from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run

print("ready", flush=True)
sys.stdin.readline()
try:
    run = Run.create(sys.argv[1], "pretrain", PretrainConfig("CartPole-v1", seed=int(sys.argv[2])))
except UserError:
    sys.exit(2)
run.log({"iteration": int(sys.argv[2])})
sys.stdin.readline()
"""


def test_of_several_starts_at_one_instant_one_works(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path / "run")]
    with ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen([*command, str(i)], stdin=-1, stdout=-1, text=True)) for i in range(6)
        ]
        for process in started:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        deadline = time.monotonic() + 60
        while sum(process.poll() is not None for process in started) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (winner,) = (i for i, process in enumerate(started) if process.poll() is None)
        run = Run.open(tmp_path / "run")
        with pytest.raises(UserError, match="another process is working"):
            run.lock()
        started[winner].kill()
    assert [process.returncode for i, process in enumerate(started) if i != winner] == [2] * 5
    assert run.config()[1].seed == run.read_json("manifest.json")["seed"] == winner
    assert [row["iteration"] for row in run.metrics()] == [winner]
    run.lock()  # which went with its process
