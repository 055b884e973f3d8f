from pathlib import Path

import numpy as np

from rlhf_control.data import CORRECTION, Feedback, Query
from rlhf_control.feedback.corrections import store_correction
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.store import FeedbackStore
from tests.conftest import random_segments


def test_a_correction_comes_with_its_answer_and_nobody_is_asked(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    one, two = (random_segments(np.random.default_rng(i), 6) for i in (1, 2))
    key = store_correction(store, one, two, "me", round=3, policy=7)
    (asked,), (vote,) = store.asked(), store.votes()
    assert (asked.key, asked.kind, asked.strategy, asked.round, asked.policy) == (key, CORRECTION, CORRECTION, 3, 7)
    assert vote.feedback == Feedback((1, 0), "me") and store.upcoming("you", 1) == []
    assert [clip.digest() for clip in store.segments(asked.clips).values()] == [one.digest(), two.digest()]


def test_a_correction_of_clips_that_are_shorter_is_learned_from_beside_others(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    pair = Query(0, 0, "uniform", random_segments(np.random.default_rng(0), 2, 9))
    store.ask([pair])
    (asked,) = store.asked()
    store.vote(asked.key, Feedback((0, 1), "me"))
    labels = Labels(store, None, 0)
    labels.adopt()
    one, two = (random_segments(np.random.default_rng(i), 4) for i in (1, 2))
    store_correction(store, one, two, "me")
    labels.collect()
    answers = labels.answers()
    assert answers is not None and answers.clips.mask is not None
    assert answers.clips.mask.sum(1).tolist() == [9, 9, 4, 4]
