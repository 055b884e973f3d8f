"""What becomes of runs, files and votes when something goes wrong, with counts: the table of results/reliability.md.

Processes are killed with SIGKILL at random moments, bits are flipped, files are cut, disks are full, links and pipes
stand where files should. All of it is done to this program's own files, in a temporary folder. Less than an hour on two
idle cores; `--quick` is a small part of it, in a minute or two.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import RESULTS

from rlhf_control.cli import main
from rlhf_control.compute.processes import python
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError, guarded
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rng import stream
from rlhf_control.runs.files import load_state, write_atomic
from rlhf_control.runs.machine import environment_facts
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


FULL = Size(20, 900, 300, 4, 30, 20, 20, 6)
QUICK = Size(1, 60, 20, 2, 2, 1, 4, 2)


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


# -- runs


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


def go(folder: Path, arguments: Sequence[str], kill_after: float = PATIENCE, **options: Any) -> tuple[int, str]:
    """Exit code and words of a command in a process of its own, which is killed after so many seconds."""
    process = subprocess.Popen(
        python(PROGRAM, *arguments), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        return process.wait(kill_after), process.communicate()[1]
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


def read_only(folder: Path) -> Row:
    """A run whose folder may not be written."""
    row = Row("resuming in a read-only folder: one line")
    if os.geteuid() == 0:
        row.note = "not tried: root may write anywhere"
        return row
    run = folder / "pretrain"
    run.chmod(0o500)
    try:
        code, words = go(folder, ["resume", str(run)])
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


# -- files


def damaged_files(folder: Path, size: Size, rng: np.random.Generator) -> tuple[Row, Row]:
    """Bits flipped in sealed files, and sealed files cut."""
    flips, cuts = Row("sealed files with a flipped bit: refused"), Row("sealed files cut short: refused")
    sealed = [*folder.glob("*etrain/policy.npz"), *folder.glob("finetune/reward.npz"), *folder.glob("*/checkpoints/*")]
    damaged = folder / "damaged.npz"
    for row, n in ((flips, size.flips), (cuts, size.cuts)):
        for _ in range(n):
            content = bytearray(sealed[int(rng.integers(len(sealed)))].read_bytes())
            place = int(rng.integers(len(content)))
            if row is flips:
                content[place] ^= 1 << int(rng.integers(8))
            else:
                del content[place:]
            damaged.write_bytes(content)
            row.count(refused(lambda: load_state(damaged)))
    return flips, cuts


def refused(work: Callable[[], object]) -> bool:
    """Whether it ends in an error that is one line."""
    try:
        work()
    except UserError:
        return True
    except Exception:
        return False
    return False


def a_store(path: Path, questions: int, rng: np.random.Generator) -> FeedbackStore:
    """Comparisons of random clips."""
    store = FeedbackStore(path)
    shape = (questions, 2, 5)
    clips = Segments(
        rng.normal(size=(*shape, 3)).astype(np.float32), rng.normal(size=(*shape, 2)).astype(np.float32),
        rng.normal(size=(*shape, 3)).astype(np.float32), rng.normal(size=shape).astype(np.float32),
    )  # fmt: skip
    store.ask([Query(0, i, "uniform", clips[i]) for i in range(questions)])
    return store


def content(path: Path) -> Any:
    """All that a store says."""
    store = FeedbackStore(path, create=False)
    asked = store.asked()
    store.segments(digest for query in asked for digest in query.clips)
    open_to = [query.key for query in store.upcoming("nobody", len(asked))]
    return asked, store.votes(), open_to


def damaged_store(folder: Path, size: Size, rng: np.random.Generator) -> Row:
    """Bits flipped in a feedback store with votes, undos and open questions."""
    row, harmless = Row("feedback stores with a flipped bit: refused, or every row as it was"), 0
    store = a_store(folder / "store.sqlite", 12, rng)
    for query in store.asked()[:8]:
        store.vote(query.key, Feedback((0, 1), "somebody"))
    store.undo(store.asked()[0].key, "somebody")
    expected, whole = content(store.path), store.path.read_bytes()
    for i in range(size.flips):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path = folder / f"flipped-{i}.sqlite"
        path.write_bytes(flipped)
        try:
            same = content(path) == expected
            harmless += same
            row.count(same)
        except UserError:
            row.count(True)
        except Exception:
            row.count(False)
        path.unlink()
    row.note = f"{harmless} flips in bytes that mean nothing"
    return row


VOTES = """
from rlhf_control.labelling.session import Session
from rlhf_control.feedback.store import FeedbackStore
session = Session(FeedbackStore(sys.argv[1], create=False), sys.argv[2], lease=1.0)
while (question := session.next()) is not None:
    session.vote((0, 1))
    print(question.key, flush=True)
"""


def killed_annotators(folder: Path, size: Size, rng: np.random.Generator) -> Row:
    """People who vote at once in processes that are killed again and again: what was acknowledged is there."""
    row = Row("votes acknowledged by annotators who are killed with -9: on the disk")
    store = a_store(folder / "votes.sqlite", 40 * size.annotators, rng)
    acknowledged: set[tuple[str, str]] = set()
    for _ in range(size.kills):
        names = [f"annotator {i}" for i in range(size.annotators)]
        people = [
            subprocess.Popen(python(VOTES, str(store.path), name), stdout=subprocess.PIPE, text=True) for name in names
        ]
        select.select([person.stdout for person in people if person.stdout], [], [], PATIENCE)  # somebody has voted
        time.sleep(float(rng.uniform(0.0, 0.3)))
        for name, person in zip(names, people, strict=True):
            person.kill()
            lines = person.communicate()[0].split("\n")[:-1]  # the last one may be cut
            acknowledged |= {(line, name) for line in lines}
    kept = {(vote.query, vote.annotator) for vote in FeedbackStore(store.path).votes()}
    row.tried, row.held = len(acknowledged), len(acknowledged & kept)
    row.note = f"{size.kills * size.annotators} kills"
    return row


# -- what does not belong there

FILES = ("metrics.jsonl", "run.lock", "config.json", "manifest.json", "status.json", "labels.sqlite", "policy.npz")
VERBS = (
    ["resume"],
    ["labels"],
    ["plot"],
    ["evaluate", "--episodes", "1"],
    ["evaluate-reward"],
    ["label", "--terminal"],
)


def links_and_pipes(folder: Path, size: Size) -> Row:
    """A link to a file elsewhere, or a pipe, in the place of a run's file, and each verb on that run."""
    row = Row("a link or a pipe in the place of a run's file: no hang, no traceback, no harm")
    precious = folder / "precious"
    for name in FILES[: None if size.verbs > 2 else 2]:
        for pipe in (False, True):
            for verb in VERBS[: size.verbs]:
                run = folder / "finetune"
                precious.write_text("work of years")
                with instead(run / name, precious, pipe):
                    held = quietly([*verb[:1], str(run), *verb[1:]], folder)
                row.count(held and precious.read_text() == "work of years")
    return row


@contextmanager
def instead(path: Path, target: Path, pipe: bool) -> Iterator[None]:
    """Within, a pipe or a link to the target stands at the path."""
    kept, before = path.with_name("kept"), path.exists()
    if before:
        path.rename(kept)
    os.mkfifo(path) if pipe else path.symlink_to(target)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if before:
            kept.rename(path)


def quietly(arguments: Sequence[str], folder: Path) -> bool:
    """Whether a command ends by itself, in an exit code and without a traceback."""

    def too_long(signum: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(PATIENCE))
    here = os.getcwd()
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main(arguments)
        return True
    except Exception:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        os.chdir(here)


# -- the table


def measure(size: Size, seed: int = 0) -> list[Row]:
    """Everything, in a temporary folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = uninterrupted(folder)
        trials: list[Callable[[], Row | tuple[Row, ...]]] = [
            lambda: killed_runs(folder, size, stream(seed, "kills"), whole),
            lambda: full_disk(folder, size, stream(seed, "disk"), whole),
            lambda: read_only(folder),
            lambda: simultaneous_starts(folder, size),
            lambda: damaged_files(folder, size, stream(seed, "files")),
            lambda: damaged_store(folder, size, stream(seed, "store")),
            lambda: killed_annotators(folder, size, stream(seed, "annotators")),
            lambda: links_and_pipes(folder, size),
        ]
        rows: list[Row] = []
        for trial in trials:
            found = trial()
            new = [found] if isinstance(found, Row) else list(found)
            print(*map(line, new), sep="\n", flush=True)
            rows += new
        return rows


def line(row: Row) -> str:
    return f"| {row.what} | {row.held} of {row.tried} | {row.note} |"


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    return "\n".join(["| what | held | |", "|---|---:|---|", *map(line, rows)]) + "\n"


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small part, in a minute or two")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for reliability.md and .json")
    arguments = parser.parse_args()
    started = time.monotonic()
    rows = measure(QUICK if arguments.quick else FULL)
    facts = {"seconds": round(time.monotonic() - started), "quick": arguments.quick, **environment_facts()}
    result = {**facts, "rows": [asdict(row) for row in rows]}
    write_atomic(arguments.out / "reliability.json", (json.dumps(result, indent=1) + "\n").encode())
    command = f"python experiments/reliability.py{' --quick' * arguments.quick}"
    text = f"# What holds when something goes wrong\n\n{table(rows)}\n`{command}`, {facts['seconds']} s.\n"
    write_atomic(arguments.out / "reliability.md", text.encode())
    return int(any(row.held < row.tried for row in rows))


if __name__ == "__main__":
    sys.exit(guarded(run))
