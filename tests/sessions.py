"""A person's session of voting, without a window, for the tests of labelling."""

import os
import time
from pathlib import Path

import numpy as np

from rlhf_control.data import COMPARISON, Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling.session import (
    Question,
    Session,
)
from rlhf_control.runs.status import Status
from tests.conftest import random_segments


def make_session(folder: Path, n: int = 3, kind: str = COMPARISON, size: int = 2, annotators: int = 1) -> Session:
    """On a store of n queries; the annotator is me."""
    store = FeedbackStore(folder / "labels.sqlite")
    rng = np.random.default_rng(0)
    queries = [Query(0, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]
    store.ask(queries, annotators=annotators)
    return Session(store, "me", seed=0)


def question(session: Session) -> Question:
    found = session.next()
    assert found is not None
    return found


def status(state: str = "waiting", **changed: object) -> Status:
    fields = {"state": state, "pid": os.getpid(), "updated": time.time(), "env_id": "HalfCheetah-v5"}
    return Status(**{**fields, **changed})  # type: ignore[arg-type]
