"""What becomes of runs, files and votes when something goes wrong, with counts: the table of results/reliability.md.

Processes are killed with SIGKILL at random moments, bits are flipped, files are cut, disks are full, links and pipes
stand where files should. All of it is done to this program's own files, in a temporary folder. Less than an hour on two
idle cores; `--quick` is a small part of it, in a minute or two.
"""

import argparse
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import RESULTS
from reliability_runs import (
    PATIENCE,
    Row,
    Size,
    full_disk,
    killed_runs,
    read_only,
    simultaneous_starts,
    uninterrupted,
)

from rlhf_control.cli import main
from rlhf_control.compute.processes import python
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError, guarded
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rng import stream
from rlhf_control.runs.files import load_state, write_atomic
from rlhf_control.runs.machine import environment_facts

FULL = Size(20, 900, 300, 4, 30, 20, 20, 6)
QUICK = Size(1, 60, 20, 2, 2, 1, 4, 2)


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
