"""Runs that are killed, run out of disk, may not write, or start all at once: what `reliability.py` tries on processes.

Here are also the rows that it counts in.
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.compute.processes import python
from rlhf_control.errors import UserError
from rlhf_control.runs.files import load_state
from rlhf_control.runs.run import Run

PROGRAM = """
from rlhf_control import cli, train
def work():
    verb, *options = sys.argv[1:]
    if verb == "resume":
        train.resume(*options)
    else:
        getattr(train, verb)(cli.parse(cli.COMMANDS[verb][0], verb, options))
sys.exit(cli.guarded(work))
"""  # as `rlhf-control` does, without the report
TINY = ["--ppo.num-envs", "2", "--ppo.num-steps", "64", "--checkpoint-seconds", "0"]
RUNS = {
    "pretrain": ["pretrain", "CartPole-v1", *TINY, "--total-steps", "6400"],
    "finetune": ["finetune", "halfcheetah", *TINY, "--oracle", "backward", "--labels", "12", "--rounds", "3",
                 "--first-labels", "4", "--total-steps", "3200", "--guard.chance", "off"],
}  # fmt: skip
CLOCKS = ("wall_seconds", "steps_per_second", "fit_seconds")  # what differs between equal runs
PATIENCE = 120.0  # seconds after which a process counts as hanging


@dataclass(frozen=True)
class Size:
    """How often each thing is tried."""

    runs: int  # of each verb
    flips: int  # of a sealed file, and of a store
    cuts: int
    annotators: int
    kills: int  # of each annotator
    starts: int  # times that STARTERS processes start one run
    starters: int
    verbs: int  # that meet links and pipes


@dataclass
class Row:
    """One line of the table."""

    what: str
    tried: int = 0
    held: int = 0
    note: str = ""

    def count(self, held: bool) -> None:
        self.tried += 1
        self.held += held


def outcome(run: Path) -> str:
    """SHA-256 of what a run has come to: its policy, its reward, its metrics but for the clocks."""
    sha = hashlib.sha256()
    for name in ("policy.npz", "reward.npz"):
        if (run / name).exists():
            state = load_state(run / name)
            facts = {key: value for key, value in state.items() if key != "facts"}  # the config names the folder
            sha.update(repr(flat(facts)).encode())
    for row in Run(run).metrics():
        sha.update(json.dumps({k: v for k, v in row.items() if not k.endswith(CLOCKS)}).encode())
    return sha.hexdigest()


def flat(node: Any) -> Any:
    """Nested dicts with the bytes of each array."""
    if isinstance(node, dict):
        return [(key, flat(value)) for key, value in sorted(node.items())]
    return (node.shape, node.dtype.str, hashlib.sha256(node.tobytes()).hexdigest()) if hasattr(node, "dtype") else node


def go(folder: Path, arguments: Sequence[str], **options: Any) -> tuple[int, str]:
    """Exit code and words of one of our commands in a process of its own."""
    return ended(python(PROGRAM, *arguments), folder, **options)


def ended(command: Sequence[str], folder: Path, **options: Any) -> tuple[int, str]:
    """Exit code and words of a process, which is killed when it hangs."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        return process.wait(PATIENCE), process.communicate()[1]
    except subprocess.TimeoutExpired:
        process.kill()
        words = process.communicate()[1]
        return process.returncode, words


def uninterrupted(folder: Path) -> dict[str, str]:
    """Verb -> outcome of a run that nothing happens to."""
    found = {}
    for verb, arguments in RUNS.items():
        code, words = go(folder, [*arguments, "--out", verb])
        if code:
            raise UserError(f"an uninterrupted run ended with {code}: {words[-300:]}")
        found[verb] = outcome(folder / verb)
    return found


def killed_runs(folder: Path, size: Size, rng: np.random.Generator, whole: dict[str, str]) -> Row:
    """Runs and their resumes killed with SIGKILL at random moments until one gets through, beside the whole ones."""
    row, kills = Row("runs killed with -9, and their resumes, end bit-equal to the uninterrupted run"), 0
    for verb, arguments in RUNS.items():
        expected = whole[verb]
        for i in range(size.runs):
            out = folder / f"{verb}-{i}"
            for attempt in range(10):
                command = ["resume", str(out)] if (out / "config.json").exists() else [*arguments, "--out", str(out)]
                if attempt > 3 or not kill_at(
                    folder, command, out, int(rng.integers(1, 13)), float(rng.uniform(0, 0.2))
                ):
                    go(folder, command)
                    break
                kills += 1
            row.count(outcome(out) == expected)
    row.note = f"{kills} kills"
    return row


def kill_at(folder: Path, command: Sequence[str], out: Path, rows: int, seconds: float) -> bool:
    """Kills a command some time after it has written so many more rows of metrics; False if it ended before."""
    before = len(Run(out).metrics())
    process = subprocess.Popen(
        python(PROGRAM, *command), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline and len(Run(out).metrics()) < before + rows:
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


def full_disk(folder: Path, size: Size, rng: np.random.Generator, whole: dict[str, str]) -> Row:
    """A limit on the size of files, at which writing fails as on a full disk, and a resume without it."""
    row = Row("no space left: one line, nothing lost, and the resume ends bit-equal")
    for i in range(max(1, size.runs // 4)):
        out, limit = folder / f"full-{i}", int(rng.integers(2_000, 30_000))
        code, words = go(
            folder, [*RUNS["pretrain"], "--out", str(out)],
            preexec_fn=lambda n=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)),
        )  # fmt: skip
        told = code == 2 and "Traceback" not in words
        again = ["resume", str(out)] if (out / "config.json").exists() else [*RUNS["pretrain"], "--out", str(out)]
        go(folder, again)
        row.count(told and outcome(out) == whole["pretrain"])
    return row


AS_OTHERS = ["setpriv", "--bounding-set", "-dac_override"]  # takes from root that it may write anywhere


def read_only(folder: Path) -> Row:
    """A run whose folder may not be written."""
    row = Row("resuming in a read-only folder: one line")
    before = AS_OTHERS if os.geteuid() == 0 else []
    if before and (not shutil.which("setpriv") or subprocess.run([*before, "true"]).returncode):
        row.note = "not tried: root may write anywhere"
        return row
    run = folder / "pretrain"
    run.chmod(0o500)
    try:
        code, words = ended([*before, *python(PROGRAM, "resume", str(run))], folder)
    finally:
        run.chmod(0o700)
    row.count(code == 2 and "Traceback" not in words)
    return row


STARTS = """
from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run
print("ready", flush=True)
sys.stdin.readline()
try:
    run = Run.create(sys.argv[1], "pretrain", PretrainConfig("CartPole-v1"))
except UserError:
    sys.exit(2)
print("works", flush=True)
sys.stdin.readline()
"""


def simultaneous_starts(folder: Path, size: Size) -> Row:
    """So many processes make one run's folder at one instant."""
    row = Row(f"{size.starters} starts in one folder at one instant: one works, the others say so")
    for i in range(size.starts):
        command = python(STARTS, str(folder / f"start-{i}"))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started = [subprocess.Popen(command, **pipes) for _ in range(size.starters)]
        for process in started:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in started if process.stdout]
        codes = [process.communicate("\n")[0] or process.returncode for process in started]
        row.count(answers.count("works\n") == 1 and codes.count(2) == size.starters - 1)
    return row
