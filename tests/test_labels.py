from pathlib import Path

import numpy as np
import pytest
from conftest import random_segments

from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.labels import Labels, accuracy
from rlhf_control.oracles import RewardOracle, env_reward
from rlhf_control.reward import KnownReward
from rlhf_control.store import FeedbackStore


def make_queries(n: int, round: int = 0) -> list[Query]:
    rng = np.random.default_rng(round)
    return [Query(round, i, "uniform", random_segments(rng, 2, 5)) for i in range(n)]


class Scripted:
    """Answers from a list and counts the questions."""

    def __init__(self, answers: list[tuple[int, ...] | None]) -> None:
        self.answers, self.asked = answers, 0

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        self.asked += 1
        return Feedback(self.answers[query.index], "scripted")


def test_issued_answered_and_informative_are_counted_apart(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1), (1, 0), (0, 0), None]), 0)
    queries = make_queries(4)
    labels.ask(queries, queries[0].segments)
    assert labels.counts() == {"queries": 4, "labels": 3}  # "cannot tell" is no label
    pairs = labels.pairs()
    assert pairs is not None
    np.testing.assert_array_equal(pairs[1], [1, 0, 0.5])
    assert pairs[0].obs.shape == (3, 2, 5, 17)
    assert labels.pairs(queries[3:]) is None


def test_a_stored_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    store, oracle = FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 5)
    queries = make_queries(5)
    store.ask(queries[:2])
    store.vote(queries[0].segments.digest(), Feedback((1, 0), "a person, before the crash"))
    labels = Labels(store, oracle, 0)
    labels.ask(queries, queries[0].segments)
    assert oracle.asked == 4
    pairs = labels.pairs()
    assert pairs is not None
    np.testing.assert_array_equal(pairs[1], [0, 1, 1, 1, 1])


def test_answers_do_not_depend_on_what_was_answered_before(tmp_path: Path) -> None:
    """A noisy oracle gives the same answers when half of them are already in the store."""
    queries, oracle = make_queries(20), RewardOracle(env_reward, "env", temperature=3.0)
    whole = Labels(FeedbackStore(tmp_path / "a.sqlite"), oracle, 7)
    whole.ask(queries, queries[0].segments)
    half = Labels(FeedbackStore(tmp_path / "b.sqlite"), oracle, 7)
    half.ask(queries[:9], queries[0].segments)
    again = Labels(half.store, oracle, 7)
    again.ask(queries, queries[0].segments)
    np.testing.assert_array_equal(whole.pairs()[1], again.pairs()[1])  # type: ignore[index]


def test_accuracy_leaves_ties_out() -> None:
    pairs = random_segments(np.random.default_rng(0), 4, 2, 5)
    means = pairs.env_reward.mean(-1)
    target = (means[:, 0] > means[:, 1]).astype(np.float32)
    target[0] = 1 - target[0]
    target[1] = 0.5
    assert accuracy(KnownReward(env_reward), pairs, target) == 2 / 3
    assert accuracy(KnownReward(env_reward), pairs, np.full(4, 0.5)) == 0.5


def test_lost_votes_are_noticed(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 3), 0)
    queries = make_queries(3)
    labels.ask(queries, queries[0].segments)
    again = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([]), 0)
    again.load_state(labels.state())
    assert again.counts() == labels.counts()
    with pytest.raises(UserError, match="lacks votes"):
        Labels(FeedbackStore(tmp_path / "new.sqlite"), Scripted([]), 0).load_state(labels.state())
