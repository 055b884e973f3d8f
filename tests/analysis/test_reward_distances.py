import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlhf_control.analysis.reward_distances import (
    BASELINES,
    average_ranks,
    dard_canonical,
    epic_canonical,
    lost_since_peak,
    overoptimisation,
    pair_accuracy,
    pearson,
    pearson_distance,
    spearman,
)
from rlhf_control.data import Segments

GAMMA = 0.9
vectors = arrays(np.float64, 12, elements=st.floats(-100, 100))


def steps(obs: list, action: list, next_obs: list) -> Segments:
    """One observation and one action a step, shapes (...,)."""
    o, a, n = (np.asarray(v, np.float64)[..., None] for v in (obs, action, next_obs))
    return Segments(o, a, n, np.zeros(o.shape[:-1]))


def some(rng: np.random.Generator, *shape: int) -> Segments:
    return steps(*(rng.normal(size=shape) for _ in range(3)))  # type: ignore[arg-type]


def reward(s: Segments) -> np.ndarray:
    o, a, n = s.obs[..., 0], s.action[..., 0], s.next_obs[..., 0]
    return np.sin(3 * o) * a + n**2 - 0.3 * a


def potential(x: np.ndarray) -> np.ndarray:
    return np.cos(2 * x[..., 0]) + 0.5 * x[..., 0] ** 3


def shaped(s: Segments) -> np.ndarray:
    return 7 * reward(s) + GAMMA * potential(s.next_obs) - potential(s.obs)


# -- correlation and accuracy


def test_correlations_by_hand() -> None:
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    assert pearson(x, y) == pytest.approx(0.8)
    assert spearman(x**5, y) == pytest.approx(0.8)
    np.testing.assert_array_equal(average_ranks(np.array([10.0, 7, 10, 30, 7, 7])), [4.5, 2, 4.5, 6, 2, 2])
    assert math.isnan(pearson(x, np.full(4, 3.3))) and math.isnan(spearman(np.zeros(4), y))
    assert pearson(x.reshape(2, 2), x.reshape(2, 2)) == pytest.approx(1)


@given(vectors, vectors, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_correlations_do_not_see_units(x: np.ndarray, y: np.ndarray, scale: float, shift: float) -> None:
    assume(x.std() > 0.1 and y.std() > 0.1)
    r = pearson(x, y)
    assert pearson(scale * x + shift, y) == pytest.approx(r, abs=1e-6)
    assert pearson(-x, y) == pytest.approx(-r) and pearson(y, x) == pytest.approx(r)
    assert -1 <= r <= 1 and 0 <= pearson_distance(x, y) <= 1
    assert pearson_distance(x, scale * x + shift) == pytest.approx(0, abs=1e-3)
    assert pearson_distance(x, -x) == pytest.approx(1)


@given(arrays(np.int64, 12, elements=st.integers(-50, 50)), vectors)
def test_spearman_sees_order_only(x: np.ndarray, y: np.ndarray) -> None:
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    assert spearman(np.exp(x / 10.0), y) == pytest.approx(spearman(x, y))


def test_accuracy_by_hand() -> None:
    assert pair_accuracy(np.array([1.0, -1, 0, 5]), np.array([2.0, 3, 1, 0])) == pytest.approx((1 + 0 + 0.5) / 3)
    assert math.isnan(pair_accuracy(np.ones(2), np.zeros(2)))


# -- calibration


# -- distances


def test_epic_by_hand() -> None:
    """R = s' + a s over coverage S, S' in {0, 2}, A in {1, 3}: E R(x, A, S') = 1 + 2 x, and E R(S, A, S') = 3, so
    C(R)(s, a, s') = s' + a s + g (1 + 2 s') - (1 + 2 s) - 3 g."""
    coverage = steps([0, 0, 2, 2], [1, 3, 1, 3], [9, 9, 9, 9])
    transitions = steps([1, -1], [2, 4], [3, 5])
    successors = steps([3, 5], [0, 0], [0, 0])
    found = epic_canonical(
        lambda t: t.next_obs[..., 0] + t.action[..., 0] * t.obs[..., 0], transitions, successors, coverage, GAMMA
    )
    np.testing.assert_allclose(found, [5 + 0.9 * 7 - 3 - 2.7, 1 + 0.9 * 11 + 1 - 2.7])


def test_dard_by_hand() -> None:
    """R = s' + a s, one sample each: s = 1, a = 2, s' = 3; (1, A = 4, S' = 5), (3, A = 4, S'' = 6), (5, 4, 6)."""
    one = [steps([[s]], [[a]], [[n]]) for s, a, n in ((1, 4, 5), (3, 4, 6), (5, 4, 6))]
    found = dard_canonical(
        lambda t: t.next_obs[..., 0] + t.action[..., 0] * t.obs[..., 0], steps([1], [2], [3]), *one, GAMMA
    )
    np.testing.assert_allclose(found, [3 + 2 + 0.9 * (6 + 12) - (5 + 4) - 0.9 * (6 + 20)])


@given(st.integers(0, 10_000))
def test_epic_does_not_see_shaping_and_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transitions, coverage = some(rng, 40), some(rng, 30)
    successors = steps(transitions.next_obs[:, 0], *rng.normal(size=(2, 40)))
    plain, other, opposite, unlike = (
        epic_canonical(r, transitions, successors, coverage, GAMMA)
        for r in (reward, shaped, lambda s: -reward(s), lambda s: s.obs[..., 0])
    )
    assert pearson_distance(plain, other) < 1e-6
    assert pearson_distance(plain, opposite) == pytest.approx(1)
    assert pearson_distance(plain, unlike) > 0.2
    # it is the canonical form that does it
    assert pearson_distance(reward(transitions), shaped(transitions)) > 0.03
    np.testing.assert_allclose((other - other.mean()) / 7, plain - plain.mean(), atol=1e-9)


@given(st.integers(0, 10_000))
def test_dard_does_not_see_shaping_and_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transitions, here, there = some(rng, 40), some(rng, 40, 5), some(rng, 40, 5)
    here = Segments(np.repeat(transitions.obs[:, None], 5, 1), here.action, here.next_obs, here.env_reward)
    there = Segments(np.repeat(transitions.next_obs[:, None], 5, 1), here.action, there.next_obs, there.env_reward)
    between = Segments(here.next_obs, here.action, there.next_obs, here.env_reward)
    plain, other = (dard_canonical(r, transitions, here, there, between, GAMMA) for r in (reward, shaped))
    np.testing.assert_allclose(other, 7 * plain, atol=1e-8)
    assert pearson_distance(plain, other) < 1e-6


def test_the_environments_reward_of_what_never_happened_is_nobodys() -> None:
    rng = np.random.default_rng(0)
    transitions = some(rng, 5)
    found = epic_canonical(lambda s: s.env_reward, transitions, transitions, some(rng, 4), GAMMA)
    assert math.isnan(pearson_distance(found, found))


# -- better than coin flips


# -- curves and trivial rewards


def test_overoptimisation_curves() -> None:
    rows = [
        {"env_steps": 10 * i, "reward_mean": float(i), "score": None if i == 1 else 1.0, "kl_start": i**2}
        for i in range(3)
    ]
    curves = overoptimisation(rows, "score")
    assert curves == {
        "env_steps": [0, 10, 20], "learned": [0.0, 1.0, 2.0], "true": [1.0, None, 1.0], "kl": [0, 1, 4],
        "sqrt_kl": [0.0, 1.0, 2.0],
    }  # fmt: skip
    assert overoptimisation(rows, "absent")["true"] == [None] * 3


def test_what_was_lost_since_the_peak() -> None:
    rise_and_fall = [0.0] * 5 + [4.0] * 5 + [1.0] * 5
    found = lost_since_peak(range(15), [*rise_and_fall])
    assert found == {"peak_step": 7.0, "lost": pytest.approx(0.75)}
    assert lost_since_peak(range(9), [float(i) for i in range(9)])["lost"] == 0
    assert lost_since_peak(range(4), [1.0] * 4) == {"peak_step": None, "lost": None}
    assert lost_since_peak(range(6), [1.0] * 6)["lost"] is None  # no gain to lose
    assert lost_since_peak([0, 1, 2, 3, 4, 5, 6], [None, 0.0, 0.0, 0.0, 0.0, 0.0, None])["peak_step"] == 3


def test_trivial_rewards() -> None:
    s = steps([1, 2], [3, -1], [0, 0])
    found = {name: baseline(s).tolist() for name, baseline in BASELINES.items()}
    assert found == {"constant": [0, 0], "alive": [1, 1], "action norm": [-9, -1]}
