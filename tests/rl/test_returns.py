"""Advantages, returns and the scale of rewards, by hand and by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.rl.returns import RewardScaler, equations_of_values, gae, line_in_values
from tests.conftest import random_rollout


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def flags(*values: int) -> np.ndarray:
    return np.array(values, bool)[:, None]


def test_gae_by_hand() -> None:
    """gamma = 1/2, lambda = 1/2; V = 1, 2, 3 and 4 behind the last step."""
    advantage, returns = gae(
        column(1, 1, 1), column(1, 2, 3), column(2, 3, 4), flags(0, 0, 0), flags(0, 0, 0), 0.5, 0.5
    )
    # deltas: 1 + 1 - 1 = 1;  1 + 1.5 - 2 = 0.5;  1 + 2 - 3 = 0
    np.testing.assert_allclose(advantage, column(1 + 0.25 * 0.5, 0.5, 0))
    np.testing.assert_allclose(returns, advantage + column(1, 2, 3))


def test_a_terminated_step_is_not_bootstrapped_and_a_truncated_one_is() -> None:
    """V(final observation) = 4 at step 1, where the episode ends; the next episode's values must not leak in."""
    values = column(1, 2, 30), column(2, 4, 40)
    terminated, _ = gae(column(1, 1, 1), *values, flags(0, 1, 0), flags(0, 0, 0), 0.5, 0.5)
    truncated, _ = gae(column(1, 1, 1), *values, flags(0, 0, 0), flags(0, 1, 0), 0.5, 0.5)
    np.testing.assert_allclose(terminated[1], 1 - 2)
    np.testing.assert_allclose(truncated[1], 1 + 0.5 * 4 - 2)
    np.testing.assert_allclose(truncated[0], 1 + 0.25 * truncated[1])
    both, _ = gae(column(1, 1, 1), *values, flags(0, 1, 0), flags(0, 1, 0), 0.5, 0.5)
    np.testing.assert_allclose(both, terminated)  # what has ended has no future, whatever the clock says


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_its_definition(seed: int, gamma: float, lam: float) -> None:
    """The sum over deltas, written out, up to the end of the episode."""
    r = random_rollout(np.random.default_rng(seed), T=12, N=2, ends=0.2)
    value, next_value = np.random.default_rng(seed + 1).normal(size=(2, 12, 2))
    advantage, _ = gae(r.reward, value, next_value, r.terminated, r.truncated, gamma, lam)
    delta = r.reward + gamma * next_value * ~r.terminated - value
    for n in range(2):
        for t in range(12):
            expected, weight = 0.0, 1.0
            for k in range(t, 12):
                expected += weight * delta[k, n]
                weight *= gamma * lam
                if r.done[k, n]:
                    break
            assert advantage[t, n] == pytest.approx(expected, abs=1e-6)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        gae(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)), 0.9, 0.9)


NONE = flags(0, 0, 0, 0)


def line(
    value: np.ndarray, after: np.ndarray, reward: np.ndarray, ended: np.ndarray, gamma: float, lam: float
) -> tuple:
    equations = equations_of_values(value, after, reward, ended, np.zeros_like(ended), gamma, lam)
    return line_in_values(*equations, value)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_a_line_in_values_by_hand(lam: float) -> None:
    """gamma = 1/2. A robot goes round two states, A B A B, and gets 1 in A: V = 4/3, 2/3. A reward of 3 r - 1 is worth
    3 V - 1 / (1 - 1/2), its opposite the contrary. Of an end nothing follows: of 1 a step, the last step is worth 1 and
    the one before 3/2."""
    there, back = column(4 / 3, 2 / 3, 4 / 3, 2 / 3), column(2 / 3, 4 / 3, 2 / 3, 4 / 3)
    np.testing.assert_allclose(line(there, back, column(1, 0, 1, 0), NONE, 0.5, lam), (1, 0), atol=1e-12)
    np.testing.assert_allclose(line(there, back, column(2, -1, 2, -1), NONE, 0.5, lam), (3, -2))
    np.testing.assert_allclose(line(there, back, column(-2, 1, -2, 1), NONE, 0.5, lam), (-3, 2))
    of_ends = line(column(0, 1), column(1, 7), column(1, 1), flags(0, 1), 0.5, lam)
    np.testing.assert_allclose(of_ends, (-0.5, 1.5))


def test_a_line_in_noisy_values_is_flatter_the_less_its_targets_look_ahead() -> None:
    """Values with noise of their own, r = V - gamma V' of the true ones: by least squares on what they are, a is
    var V / (var V + var noise), a half, and by single steps, whose noise counts twice, less."""
    rng = np.random.default_rng(0)
    true = np.sin(np.arange(4001) / 40 + rng.uniform(0, 6, (8, 1))).T * np.sqrt(2)  # (T, N), slow, variance 1
    reward, seen = true[:-1] - 0.99 * true[1:], true + rng.standard_normal(true.shape)
    nobody = np.zeros(reward.shape, bool)
    whole, usual, single = (line(seen[:-1], seen[1:], reward, nobody, 0.99, lam)[0] for lam in (1.0, 0.95, 0.0))
    assert whole == pytest.approx(0.5, abs=0.05)
    assert whole > usual > 0.2 > 0.05 > single > 0


def test_a_line_in_values_that_tell_nothing() -> None:
    flat, ones = np.full((4, 1), 2.0), np.ones((4, 1))
    a, b = line(flat, flat, ones, NONE, 0.5, 0.5)
    assert (a, a * 2 + b) == pytest.approx((1, 2))  # what they are to be, and no more is told
    nearly = flat + column(0, 1, 0, 1) * 1e-6
    assert line(nearly, nearly[::-1], ones, NONE, 0.5, 0.5)[0] == 1
    assert line(column(1, 2, 3, 4), column(2, 3, 4, 5), ones, NONE, 1.0, 0.5) == (1, 0)  # without discount or end
    growing = column(1, 2, 4, 8)  # as fast as it is discounted: whatever is added to it is worth nothing
    assert line(growing, 2 * growing, ones, NONE, 0.5, 0.5)[0] == 1


def test_reward_scaler_by_hand_and_by_definition() -> None:
    scaler = RewardScaler(num_envs=3, gamma=0.9)
    rollouts = [random_rollout(np.random.default_rng(i), T=15) for i in range(3)]
    discounted, history = np.zeros(3), []
    for rollout in rollouts:
        scaled = scaler(rollout)
        for t in range(15):
            discounted = discounted * 0.9 + rollout.env_reward[t]
            history.append(discounted.copy())
            discounted[rollout.done[t]] = 0
        std = np.sqrt(np.var(history) + 1e-8)
        np.testing.assert_allclose(scaled.reward, rollout.env_reward / std, rtol=1e-5)
        assert scaled.env_reward is rollout.env_reward  # what is reported stays raw
    other = RewardScaler(3, 0.9)
    other.load_state(scaler.state())
    np.testing.assert_array_equal(other(rollouts[0]).reward, scaler(rollouts[0]).reward)
