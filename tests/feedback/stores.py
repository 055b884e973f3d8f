"""Queries and stores of the tests of feedback."""

from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, Query
from rlhf_control.feedback.store import FeedbackStore
from tests.conftest import random_segments


def make_queries(n: int, seed: int = 0, kind: str = COMPARISON, size: int = 2) -> list[Query]:
    rng = np.random.default_rng(seed)
    return [Query(0, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]


def make_store(folder: Path, n: int = 1, **options: Any) -> tuple[FeedbackStore, list[str]]:
    """A store of n comparisons, and their keys."""
    store = FeedbackStore(folder / "labels.sqlite")
    return store, [asked.key for asked in store.ask(make_queries(n), **options)]
