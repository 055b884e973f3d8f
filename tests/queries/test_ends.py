from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlhf_control.config import RewardConfig
from rlhf_control.data import COMPARISON, Segments
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.queries.choose import Pool
from rlhf_control.queries.ends import asks_about_ends, cut_short, end_questions, information, to_be_seen
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.known import KnownReward
from rlhf_control.reward.model import RewardModel
from tests.conftest import random_segments
from tests.reward.given_answers import known

LENGTH = 8


def episodes(n: int, length: int = LENGTH) -> list[Segments]:
    clips = random_segments(np.random.default_rng(1), n, length)
    return [clips[i] for i in range(n)]


def asked(tails: list[Segments], pool: Pool, n: int, ends: EndCosts | None = None, reward: Any = None) -> list:
    reward = reward or known()
    reward.ends = ends or EndCosts(6.0, LENGTH)
    return end_questions(tails, pool, n, 3, reward, np.random.default_rng(0))


@pytest.mark.parametrize("length", [2, 3, LENGTH])
def test_the_last_steps_are_shown_and_fewer_than_a_whole_clip_has(length: int) -> None:
    rng, (episode,) = np.random.default_rng(0), episodes(1, length)
    found = {len(cut_short(episode, LENGTH, rng)) for _ in range(200)}
    assert found == set(range(2, min(length, LENGTH - 1) + 1))
    clip = cut_short(episode, LENGTH, rng)
    np.testing.assert_array_equal(clip.obs, episode.obs[-len(clip) :])


def test_each_question_shows_an_end_beside_a_whole_clip_and_neither_twice() -> None:
    pool = Pool.of(random_segments(np.random.default_rng(2), 20, LENGTH))
    pool.free[:5] = False
    queries = asked(episodes(6), pool, 4)
    assert [(q.round, q.strategy, q.kind, len(q.segments)) for q in queries] == [(3, EARLY_END, COMPARISON, 2)] * 4
    masks = np.stack([q.segments.mask for q in queries if q.segments.mask is not None])
    assert masks.shape == (4, 2, LENGTH) and (masks.all(2).sum(1) == 1).all()
    assert 0 < masks.all(2)[:, 0].sum() < 4  # either side
    shown = [q.segments[side].digest() for q in queries for side in range(2)]
    assert len(set(shown)) == 8
    of_pool = [pool.clips[i].digest() for i in range(20)]
    taken = [i for i, digest in enumerate(of_pool) if digest in shown]
    assert len(taken) == 4 and min(taken) >= 5 and not pool.free[taken].any() and pool.free.sum() == 15 - 4


def test_there_are_no_more_questions_than_ends_or_free_clips() -> None:
    assert len(asked(episodes(2), Pool.of(random_segments(np.random.default_rng(2), 9, LENGTH)), 5)) == 2
    assert asked([], Pool.of(random_segments(np.random.default_rng(2), 9, LENGTH)), 5) == []
    none = Pool.of(random_segments(np.random.default_rng(2), 3, LENGTH))
    none.free[:] = False
    assert asked(episodes(3), none, 5) == []
    assert asked(episodes(3, 2), Pool.of(random_segments(np.random.default_rng(2), 3, 2)), 1, EndCosts(6.0, 2)) == []


def test_what_is_asked_is_what_tells_most() -> None:
    """Of what is known nothing is told; where the answer is the same at all costs, neither."""
    pool = Pool.of(random_segments(np.random.default_rng(2), 30, LENGTH))
    ends, reward, tails = EndCosts(6.0, LENGTH), known(scale=5.0), episodes(8)
    queries = asked(tails, pool, 3, ends, reward)
    pairs = np.arange(2)[None]
    told = [float(information(reward, ends, q.segments, pairs)[0]) for q in queries]
    others = [
        float(
            information(reward, ends, Segments.stack([cut_short(tails[i % 8], LENGTH, rng), pool.clips[i]]), pairs)[0]
        )
        for rng in [np.random.default_rng(5)]
        for i in range(30)
    ]
    assert min(told) > np.median(others) > 0
    ends.log_belief = np.where(np.arange(len(ends.costs)) == 7, 0.0, -np.inf)
    np.testing.assert_allclose(information(reward, ends, queries[0].segments, pairs), 0.0, atol=1e-9)


def test_a_reward_that_knows_nothing_of_steps_asks_all_the_same() -> None:
    reward = known()
    reward.members = lambda clips: np.zeros((1, *clips.env_reward.shape))
    assert len(asked(episodes(4), Pool.of(random_segments(np.random.default_rng(2), 9, LENGTH)), 2, reward=reward)) == 2


def test_an_end_of_which_no_picture_was_taken_is_not_asked_about() -> None:
    pool = Pool.of(random_segments(np.random.default_rng(2), 9, LENGTH))
    pictures = [np.full(LENGTH, b"", "S3"), np.full(LENGTH, b"png", "S3")]
    tails = [replace(episode, frames=frames) for episode, frames in zip(episodes(2), pictures, strict=True)]
    assert not to_be_seen(tails[0]) and to_be_seen(tails[1]) and to_be_seen(episodes(1)[0])
    (query,) = asked(tails, pool, 2)
    last = tails[1].obs[-1]
    assert any((query.segments[side].present().obs[-1] == last).all() for side in range(2))


def test_a_known_reward_and_one_that_knows_the_cost_do_not_ask() -> None:
    reward = RewardModel(17, 6, RewardConfig())
    assert not asks_about_ends(reward)
    reward.ends = EndCosts(6.0, LENGTH)
    assert asks_about_ends(reward)
    reward.ends.log_belief = np.where(np.arange(len(reward.ends.costs)) == 7, 0.0, -np.inf)
    assert not asks_about_ends(reward) and not asks_about_ends(KnownReward(lambda steps: steps.env_reward))
