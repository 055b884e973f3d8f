"""People for the tests: threads and processes that claim and vote through the store, as the window does."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_control.data import Feedback, Query
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore

LEASE = 60.0
Act = Callable[[FeedbackStore, str, Query], None]  # what to do with a claimed query; usually, vote on it


def ranks_of(query: Query) -> tuple[int, ...]:
    """By the environment's reward: answers that depend on the clips alone."""
    returns = query.segments.env_reward.sum(-1)
    return tuple(int(sum(other > mine for other in returns)) for mine in returns)


def vote(store: FeedbackStore, key: str, query: Query, name: str) -> None:
    if query.kind == "rating":
        store.vote(key, Feedback(None, name, 0.1, value=3.0))
    else:
        store.vote(key, Feedback(ranks_of(query), name, 0.1))


def annotate(run: Path, name: str, stop: Callable[[], bool], act: Act | None = None, pause: float = 0.0) -> int:
    """Votes until told to stop; returns how often."""
    votes = 0
    while not (run / "labels.sqlite").exists() and not stop():
        time.sleep(0.02)
    store = None
    while not stop():
        try:
            store = store or FeedbackStore(run / "labels.sqlite", create=False)
            served = store.claim(name, LEASE)
        except UserError:  # half made
            time.sleep(0.02)
            continue
        if served is None:
            time.sleep(0.02)
            continue
        if act is None:
            vote(store, *served, name)
        else:
            act(store, *served)
        votes += 1
        time.sleep(pause)
    return votes


@contextmanager
def annotators(run: Path, *names: str, act: Act | None = None, pause: float = 0.0) -> Iterator[None]:
    """Threads of these names vote meanwhile."""
    done = threading.Event()
    threads = [threading.Thread(target=annotate, args=(run, name, done.is_set, act, pause)) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":  # RUN NAME PAUSE: an annotator of its own, until killed
    annotate(Path(sys.argv[1]), sys.argv[2], lambda: False, pause=float(sys.argv[3]))
