import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run, command_for, refuse_used


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


def test_wall_seconds_go_on_after_a_resume(run: Run) -> None:
    run._started -= 100
    run.save_checkpoint(0, {})
    again = Run.open(run.path)
    again.load_checkpoint()
    assert 100 <= again.wall_seconds() < 110


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run's folder"):
        Run.open(tmp_path)


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


def test_commands_name_code_that_is_the_users(tmp_path: Path) -> None:
    hopper, own = FinetuneConfig("Hopper-v5/backflip"), FinetuneConfig("mine.npz", behaviours="mine.py")
    plain = Run.create(tmp_path / "plain", "finetune", hopper, env_id="Hopper-v5").path
    assert command_for(plain, "resume") == f"rlhf-control resume {plain}"
    mine = Run.create(tmp_path / "my own", "finetune", own, env_id="mine:Own-v0").path
    named = "--env-id mine:Own-v0"
    assert command_for(mine, "resume") == f"rlhf-control resume '{mine}' {named} --behaviours mine.py"
    assert command_for(mine, "watch", "--gif", behaviours=False) == f"rlhf-control watch '{mine}' --gif {named}"
    trained = Run.create(tmp_path / "trained", "pretrain", PretrainConfig("mine:Own-v0")).path
    assert command_for(trained, "resume") == f"rlhf-control resume {trained} {named}"
    assert command_for(tmp_path, "resume") == f"rlhf-control resume {tmp_path}"  # where nothing can be read
    for damaged in ("[]", "3", "{"):
        (plain / "manifest.json").write_text(damaged)
        assert command_for(plain, "resume") == f"rlhf-control resume {plain}"
    with pytest.raises(UserError, match=f"go on with `rlhf-control resume '{mine}' {named} --behaviours mine.py`"):
        refuse_used(mine)
