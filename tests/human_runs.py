"""Run folders with open questions, for the tests of what people vote with."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, SUCCESS, Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import Status, write_status
from tests.conftest import random_segments

SIZES = {COMPARISON: 2, RANKING: 3, RATING: 1, SUCCESS: 1, GROUPS: 4}


def make_run(path: Path, kinds: Sequence[str] = (COMPARISON,) * 3, length: int = 5, **status: Any) -> FeedbackStore:
    """A folder with a store of one question of each of these kinds, about clips of HalfCheetah-v5, and a status that
    says that the run has finished, unless `status` says otherwise."""
    path.mkdir()
    rng = np.random.default_rng(0)
    clips = [random_segments(rng, SIZES[kind], length) for kind in kinds]
    store = FeedbackStore(path / "labels.sqlite")
    store.ask([Query(0, i, "uniform", clip, kind) for i, (kind, clip) in enumerate(zip(kinds, clips, strict=True))])
    say(path, **status)
    return store


def say(path: Path, **status: Any) -> None:
    """Puts a status into the folder."""
    now = Status("finished", os.getpid(), time.time(), "HalfCheetah-v5", step_seconds=0.05, wanted=3)
    write_status(path, replace(now, **status))
