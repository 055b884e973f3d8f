from dataclasses import replace

import numpy as np
import pytest

from rlhf_control.data import Rollout, Segments, check_finite, mean_over_steps
from rlhf_control.errors import NonFiniteError
from tests.conftest import random_rollout, random_segments


def test_with_reward_leaves_the_rest_and_refuses_nan() -> None:
    rollout = random_rollout(np.random.default_rng(0))
    new = rollout.with_reward(np.ones(rollout.reward.shape))
    assert (new.reward == 1).all() and new.reward.dtype == np.float32
    assert new.env_reward is rollout.env_reward
    bad = np.zeros(rollout.reward.shape)
    bad[7, 2] = np.nan
    with pytest.raises(NonFiniteError, match="reward is not finite: nan in environment 2 at step 7"):
        rollout.with_reward(bad)


def test_check_finite_names_field_environment_and_step() -> None:
    value = np.zeros((4, 3, 2))
    check_finite("obs", value)
    value[1, 2, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"obs .* environment 2 at step 11"):
        check_finite("obs", value, first_step=10)


def test_segments_index_stack_and_concatenate() -> None:
    s = random_segments(np.random.default_rng(0), 5, 7)
    assert len(s) == 5 and s[2].obs.shape == (7, 17)
    assert s[np.array([[0, 1], [2, 3]])].obs.shape == (2, 2, 7, 17)
    both = Segments.concatenate([s[:2], s[2:]])
    assert np.array_equal(both.state, s.state)
    assert np.array_equal(Segments.stack([s[i] for i in range(5)]).obs, s.obs)


def test_digest_depends_on_every_field_and_on_nothing_else() -> None:
    s = random_segments(np.random.default_rng(0), 7)
    assert s.digest() == random_segments(np.random.default_rng(0), 7).digest()
    for name, value in s.arrays().items():
        changed = value.copy()
        changed.flat[0] += 1
        assert Segments(**{**s.arrays(), name: changed}).digest() != s.digest()
    assert Segments(s.obs, s.action, s.next_obs, s.env_reward).digest() != s.digest()


def test_steps_show_the_executed_action() -> None:
    rollout = random_rollout(np.random.default_rng(0))
    assert rollout.as_segments().action is rollout.executed


def with_frames(clips: Segments, width: int = 9) -> Segments:
    """The same with a byte string a step, in an array that is wider than they are."""
    names = np.array([b"" if i % 2 else b"picture%d" % (i % 7) for i in range(clips.env_reward.size)], f"S{width}")
    return Segments(**clips.arrays(), frames=names.reshape(clips.env_reward.shape))


def test_digests_are_those_of_before() -> None:
    """Of stores that were written by earlier versions."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    bare = Segments(a, a[:, :2], a + 1, a[:, 0])
    assert bare.digest().startswith("2137aaa4f68c0332")
    assert Segments(*bare.arrays().values(), a.astype(np.float64)).digest().startswith("349a65b8801b5459")


def test_frames_go_along_and_count_in_the_digest() -> None:
    pool = with_frames(random_segments(np.random.default_rng(0), 4, 5))
    assert pool[1].frames is not None and pool[1].frames.shape == (5,)
    both = Segments.concatenate([pool[:1], with_frames(pool[1:].without_frames(), 30)])
    assert both.frames is not None and both.frames.dtype == np.dtype("S30")
    np.testing.assert_array_equal(Segments.stack([pool[i] for i in range(4)]).frames, pool.frames)
    assert pool[1].digest() == with_frames(pool.without_frames(), 30)[1].digest(), "the array's width leaves no trace"
    assert pool[1].digest() != pool[1].without_frames().digest()
    assert pool.without_frames().frames is None and pool.without_frames().without_frames().state is pool.state


def test_what_one_lacks_all_lack() -> None:
    pool = with_frames(random_segments(np.random.default_rng(0), 4, 5))
    bare = Segments(pool.obs, pool.action, pool.next_obs, pool.env_reward)
    for parts in ([pool, bare], [bare, pool]):
        assert Segments.concatenate(parts).arrays().keys() == bare.arrays().keys()
        assert Segments.stack([part[0] for part in parts]).obs.shape == (2, 5, 17)


def test_clips_of_unequal_length_are_filled_up_and_masked() -> None:
    def clip(rewards: list[float]) -> Segments:
        steps = np.arange(len(rewards), dtype=np.float32)[:, None]
        return Segments(steps, steps, steps + 1, np.array(rewards, np.float32))

    long, short = clip([1, 2, 3]), clip([4, 6])
    both = Segments.stack([long, short])
    assert both.mask is not None and both.mask.tolist() == [[True] * 3, [True, True, False]]
    assert mean_over_steps(both.env_reward, both.mask).tolist() == [2, 5]
    assert both.env_reward.sum(-1).tolist() == [6, 10]  # who forgets the mask is right all the same
    assert both[1].present().digest() == both[1].digest() == short.digest() != long.digest()
    assert Segments.stack([long, long]).mask is None


def test_large_clips_stay_in_one_piece_of_memory() -> None:
    """When they are chosen from and put together; all numbers are those of clips that lie apart."""
    both = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
    apart = random_segments(np.random.default_rng(0), 6, 4)
    apart = replace(apart, obs=both[:, :-1].copy(), next_obs=both[:, 1:].copy())
    compact, index = apart.compact(), np.array([4, 1, 1])
    for make in (
        lambda s: s, lambda s: s[index], lambda s: s[np.arange(6) > 2], lambda s: Segments.concatenate([s, s[index]]),
        lambda s: s.compact(), lambda s: Segments.concatenate([s[index], s]).compact()[index],
    ):  # fmt: skip
        found, expected = make(compact), make(apart)
        assert found.digest() == expected.digest()
        assert np.shares_memory(found.obs, found.next_obs)
        assert found.next_obs.ctypes.data - found.obs.ctypes.data == 7
    for part in (compact[2:4], compact[::-1], compact[0], replace(compact, next_obs=compact.obs)):
        alike = replace(part, obs=part.obs.copy(), next_obs=part.next_obs.copy())
        assert Segments.stack([part, part]).digest() == Segments.stack([alike, alike]).digest()
    assert compact[::-1][index].digest() == apart[::-1][index].digest()
    assert replace(compact, next_obs=compact.obs)[index].next_obs.tobytes() == compact.obs[index].tobytes()


def test_successors_are_kept_once() -> None:
    """Two environments of two steps; the first one's episode ends at the first step."""
    obs = np.array([[[0], [10]], [[5], [11]]], np.float32)
    next_obs = np.array([[[1], [11]], [[6], [12]]], np.float32)
    flat, ended = np.zeros((2, 2), np.float32), np.array([[True, False], [False, False]])
    rollout = Rollout.of(
        obs=obs, action=obs, executed=obs, next_obs=next_obs, env_reward=flat, reward=flat,
        terminated=ended, truncated=np.zeros_like(ended),
    )  # fmt: skip
    assert rollout.successors.ravel().tolist() == [1, 6, 12]
    np.testing.assert_array_equal(rollout.next_obs, next_obs)
