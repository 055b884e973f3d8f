"""Clips that are whole episodes, compared with such as begin alike."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config import QueryConfig
from rlhf_control.data import Rollout, Segments
from rlhf_control.errors import UserError
from rlhf_control.queries.choose import Form, Pool, choose, contexts, groups_within
from rlhf_control.queries.segments import SegmentBank, cut_episodes
from tests.queries.members import Members

MEMBERS = Members(np.eye(3, 4))


def rollout(done: np.ndarray) -> Rollout:
    """Steps (T, N) whose observation tells where they are."""
    T, N = done.shape
    obs = np.stack([np.broadcast_to(np.arange(T)[:, None], (T, N)), np.broadcast_to(np.arange(N), (T, N))], -1)
    obs = obs.astype(np.int16)
    return Rollout.of(
        obs=obs, action=np.zeros((T, N, 1), np.int64), executed=np.zeros((T, N, 1), np.float32), next_obs=obs + 1,
        env_reward=np.zeros((T, N), np.float32), reward=np.zeros((T, N), np.float32), terminated=done,
        truncated=np.zeros_like(done),
    )  # fmt: skip


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 4))
def test_every_episode_that_begins_and_ends_is_a_clip(seed: int, T: int, N: int) -> None:
    done = np.random.default_rng(seed).random((T, N)) < 0.4
    expected = []
    for n in range(N):
        ends = np.flatnonzero(done[:, n]).tolist()
        expected += [[(t, n) for t in range(a + 1, b + 1)] for a, b in pairwise(ends)]
    if not expected:
        with pytest.raises(UserError, match="no whole episode"):
            cut_episodes(rollout(done), T)
        return
    clips = cut_episodes(rollout(done), T)
    assert clips.mask is not None and clips.obs.shape == (len(expected), T, 2)
    assert [
        [tuple(step) for step in clip.present().obs.tolist()] for clip in (clips[i] for i in range(len(clips)))
    ] == expected


def test_a_bank_of_episodes_keeps_their_masks_through_a_checkpoint() -> None:
    done = np.random.default_rng(0).random((8, 6)) < 0.4
    bank = SegmentBank(8, 6, 8, clips=4).of_whole_episodes()
    for _ in range(3):
        bank.add(rollout(done))
    bank.archive(np.random.default_rng(0))
    again = SegmentBank(8, 6, 8, clips=4).of_whole_episodes()
    again.load_state(bank.state())
    pools = [b.pool(np.random.default_rng(1))[0] for b in (bank, again)]
    assert pools[0].mask is not None and pools[0].digest() == pools[1].digest()
    assert len(bank.newest(np.random.default_rng(0))) > 0


def replies(prompts: list[int], length: int = 3) -> Segments:
    """Clips (S, L, ...), of which the i-th begins with such a prompt and ends with i."""
    obs = np.zeros((len(prompts), length, 4), np.int16)
    obs[..., 0] = np.array(prompts)[:, None]
    next_obs = obs.copy()
    next_obs[:, :, 3] = np.arange(len(prompts))[:, None]
    return Segments(obs, np.zeros((*obs.shape[:2], 1), np.float32), next_obs, np.zeros(obs.shape[:2], np.float32))


@given(st.lists(st.integers(1, 5), min_size=8, max_size=40), st.sampled_from([2, 3]), st.integers(0, 999))
def test_only_replies_to_one_prompt_are_compared(prompts: list[int], size: int, seed: int) -> None:
    clips, rng = replies(prompts), np.random.default_rng(seed)
    context = contexts(clips)
    assert all((context[i] == context[j]) == (a == b) for i, a in enumerate(prompts) for j, b in enumerate(prompts))
    possible = sum(prompts.count(p) // size for p in set(prompts))
    assert len(groups_within(rng.permutation(len(clips)), size, context)) == possible
    pool = Pool(clips, len(clips), np.ones(len(clips), bool), context)
    n = min(len(prompts) // size, 6)
    kind = "comparison" if size == 2 else "ranking"
    queries = choose(
        "disagreement", pool, n, 0, MEMBERS, rng, form=Form(kind, size), config=QueryConfig(random_share=0.5)
    )
    assert len(queries) <= n and (possible < n or len(queries) > 0)
    for query in queries:
        assert len({int(obs[0, 0]) for obs in query.segments.obs}) == 1
        assert len({int(obs[0, 3]) for obs in query.segments.next_obs}) == size, "no clip twice"


def test_the_same_words_are_asked_about_last() -> None:
    clips = replies([1, 1, 1, 1, 2, 2])
    clips.next_obs[:2, :, 3] = clips.next_obs[4:, :, 3] = 9
    pool = Pool(clips, 6, np.ones(6, bool), contexts(clips))
    names = [query.strategy for query in choose("uniform", pool, 3, 0, MEMBERS, np.random.default_rng(0))]
    assert len(names) == 3 and 1 <= names.count("uniform, looks alike") <= 2
