"""A run's name taken again: what failed there with nothing to lose is put aside, so that a mistake blocks no name."""

import os
from pathlib import Path

from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import tell
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.run import FAILED, Run


def make_way(path: Path) -> None:
    """Renames the run at this path to PATH-failed, or PATH-failed-2, ..., if there is one with nothing to lose; what it
    has stays in it. Raises UserError if it is at work."""
    if not (path / "config.json").is_file() or not nothing_to_lose(Run.open(path)):
        return
    run = Run.open(path)
    run.lock()
    n = 1
    while (aside := path.with_name(f"{path.name}-failed{f'-{n}' * (n > 1)}")).exists():
        n += 1
    os.rename(path, aside)
    run.unlock()
    tell(f"the run that was at {path} had learned nothing; it is put aside as {aside}")


def nothing_to_lose(run: Run) -> bool:
    """Tells whether a run died before it had learned anything. What people have answered is never nothing."""
    if (run.path / "policy.npz").exists():
        return False
    _, config = run.config()
    if not isinstance(config, FinetuneConfig):
        return not run.metrics()
    votes = run.path / "labels.sqlite"
    answered = votes.is_file() and votes.stat().st_size > 0 and bool(FeedbackStore(votes, create=False).votes())
    return not answered or ((run.path / FAILED).exists() and config.oracle != "human")
