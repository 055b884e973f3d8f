"""Answers that nobody is waited for, on real stores."""

import time
from pathlib import Path

import numpy as np

from rlhf_control.data import (
    COMPARISON,
    DEMONSTRATION,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.feedback.answering import COMMIT_SECONDS, replay
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.schema import query_key
from rlhf_control.feedback.store import FeedbackStore
from tests.conftest import random_segments


def make_queries(n: int, round: int = 0, kind: str = COMPARISON, size: int = 2) -> list[Query]:
    rng = np.random.default_rng([round, size])
    return [Query(round, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]


def test_an_answer_that_takes_its_time_is_on_the_disk_before_the_next_question(tmp_path: Path) -> None:
    store, stored = FeedbackStore(tmp_path / "l.sqlite"), []

    def slow(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        stored.append(len(store.votes()))
        time.sleep(1.1 * COMMIT_SECONDS)
        return Feedback((0, 1), "slow")

    Labels(store, slow, 0).ask(make_queries(3), make_queries(1)[0].segments)
    assert stored == [0, 1, 2] and len(store.votes()) == 3


def test_people_need_not_judge_demonstrations(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels = Labels(store, None, 0, annotators=2)
    shown, (asked,) = make_queries(2, kind=DEMONSTRATION), make_queries(1, round=1)
    for _ in range(2):  # a resumed run asks again
        labels.issue([asked, *shown])
        labels.collect()
    assert labels.pending() == [query_key(asked)] and [q.key for q in labels.questions()] == [query_key(asked)]
    assert labels.counts() == {"queries": 3, "answers": 2, "labels": 2}
    answers = labels.answers()
    assert answers is not None and answers.ranks.tolist() == [[0, 1], [0, 1]]
    for name in ("ann", "bob"):
        served = store.claim(name, 60)
        assert served is not None and served[0] == query_key(asked)
        store.vote(served[0], Feedback((0, 1), name))
        assert store.claim(name, 60) is None


def test_a_replay_that_was_cut_off_while_copying_copies_again(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    store.ask(make_queries(2))
    (tmp_path / "again.sqlite.part").write_text("half")
    replay(store, tmp_path / "again.sqlite")
    assert len(FeedbackStore(tmp_path / "again.sqlite").asked()) == 2 and not (tmp_path / "again.sqlite.part").exists()
    replay(store, tmp_path / "again.sqlite")  # a resumed replay goes on with its own copy
