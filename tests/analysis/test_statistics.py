import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.analysis import statistics


def test_the_interquartile_mean_drops_a_quarter_on_each_side() -> None:
    assert statistics.interquartile_mean(np.array([8.0, 1, 100, 3, 4, 5, 6, -50])) == (3 + 4 + 5 + 6) / 4
    assert statistics.interquartile_mean(np.array([1.0, 2, 9])) == 4  # floor(3 / 4) = 0: the mean
    assert statistics.interquartile_mean(np.array([9.0, 1, 2, 3, 4])) == 3  # floor(5 / 4) = 1, as in scipy and rliable


def test_the_interquartile_mean_goes_along_an_axis() -> None:
    x = np.array([[0.0, 10, 20, 1000], [4, 3, 2, 1]])
    np.testing.assert_array_equal(statistics.interquartile_mean(x, axis=1), [15, 2.5])
    np.testing.assert_array_equal(statistics.interquartile_mean(x, axis=0), [2, 6.5, 11, 500.5])
    with pytest.raises(ValueError, match="nothing"):
        statistics.interquartile_mean(np.empty((0, 3)))


def test_the_bootstrap_is_its_generators_and_holds_the_estimate() -> None:
    scores = np.random.default_rng(1).normal(5, 2, (10, 7))
    low, high = statistics.bootstrap_interval(scores, np.random.default_rng(0))
    again = statistics.bootstrap_interval(scores, np.random.default_rng(0))
    np.testing.assert_array_equal((low, high), again)
    assert low.shape == high.shape == (7,)
    middle = statistics.interquartile_mean(scores)
    assert ((low < middle) & (middle < high)).all()
    assert not np.array_equal(low, statistics.bootstrap_interval(scores, np.random.default_rng(2))[0])
    one_x = statistics.bootstrap_interval(scores[:, 0], np.random.default_rng(0))
    np.testing.assert_array_equal(one_x, (low[0], high[0]))  # the same runs are drawn at every x


def test_the_bootstrap_of_two_runs_by_hand() -> None:
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: the 95 % interval is all of it,
    # and the middle 40 % are all 1/2.
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(statistics.bootstrap_interval(np.array([0.0, 1.0]), rng), (0, 1))
    np.testing.assert_array_equal(statistics.bootstrap_interval(np.array([0.0, 1.0]), rng, level=0.4), (0.5, 0.5))


def test_one_run_has_no_interval() -> None:
    low, high = statistics.bootstrap_interval(np.ones((1, 4)), np.random.default_rng(0))
    assert low.shape == high.shape == (4,) and np.isnan(low).all() and np.isnan(high).all()
    with pytest.raises(ValueError, match="shape"):
        statistics.bootstrap_interval(np.empty((0, 4)), np.random.default_rng(0))


def test_the_moving_mean_by_hand() -> None:
    np.testing.assert_allclose(statistics.moving_mean(np.array([0.0, 3, 6, 0]), 3), [1.5, 3, 3, 3])
    np.testing.assert_allclose(statistics.moving_mean(np.array([0.0, 4]), 9), [2, 2])
    np.testing.assert_array_equal(statistics.moving_mean(np.array([1.0, 5, 2]), 1), [1, 5, 2])


def test_a_common_grid_lies_where_all_runs_were_measured() -> None:
    a = np.array([10.0, 20, 30, 40]), np.array([1.0, 2, 3, 4])
    b = np.array([15.0, 25, 35]), np.array([0.0, 10, 20])
    grid, scores = statistics.on_common_grid([a, b])
    np.testing.assert_array_equal(grid, [15, 20, 30, 35])  # both ends, and where `a` has fewer points than `b`
    np.testing.assert_allclose(scores[0], [1.5, 2, 3, 3.5])
    np.testing.assert_allclose(scores[1], [0, 5, 15, 20])
    grid, scores = statistics.on_common_grid([a, a])
    np.testing.assert_array_equal(grid, a[0])
    np.testing.assert_array_equal(scores, [a[1], a[1]])
    assert len(statistics.on_common_grid([a, (np.array([50.0]), np.array([1.0]))])[0]) == 0


# -- comparisons


def test_outcomes_and_improvement_by_hand() -> None:
    a, b = np.array([2.0, 3.0]), np.array([1.0, 2.0])
    np.testing.assert_array_equal(statistics.outcomes(a, np.array([2.0, 4.0])), [0.5, 0])
    mean, low, high = statistics.improvement(a, b, np.random.default_rng(0))
    assert mean == (1 + 0.5 + 1 + 1) / 4 and low == 0.5 and high == 1  # 2 and 2 against 2 and 2, or all others


def test_a_row_of_wins_decides_when_the_capital_has_grown_enough() -> None:
    # By 1/2 the gambler stakes at most 3/4, so each win makes 1.75 times as much; 1.75 ** 6 < 2 / 0.05 < 1.75 ** 7
    low, high = statistics.betting_interval(np.ones(12))
    assert (low[:6] <= 0.5).all() and (low[6:] > 0.5).all() and (high == 1).all()
    low, high = statistics.betting_interval(np.zeros(12))
    assert (high[:6] >= 0.5).all() and (high[6:] < 0.5).all() and (low == 0).all()


@given(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=1, max_size=60))
def test_the_betting_interval_only_shrinks_and_turns_with_its_sides(x: list[float]) -> None:
    low, high = statistics.betting_interval(np.array(x))
    assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all() and (low < high).all()
    turned = statistics.betting_interval(1 - np.array(x))
    np.testing.assert_allclose((1 - turned[1], 1 - turned[0]), (low, high), atol=1.01 / statistics.GRID)


@pytest.mark.parametrize("shares", [(0.5, 0, 0.5), (0.1, 0.8, 0.1), (0.25, 0.5, 0.25)])
def test_whoever_looks_after_every_pair_is_wrong_as_seldom_as_said(shares: tuple[float, float, float]) -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        low, high = statistics.betting_interval(rng.choice([0, 0.5, 1], 100, p=shares), level=0.9)
        wrong += bool(((low > 0.5) | (high < 0.5)).any())
    assert wrong <= 16  # of 100 where 10 are allowed; a test of 5 % at each look would be wrong about 40 times


def test_a_better_one_is_found_soon_and_a_little_better_one_later() -> None:
    rng = np.random.default_rng(1)
    needed = {}
    for p in (0.9, 0.7):
        x = (rng.random((20, 400)) < p).astype(float)
        lows = np.stack([statistics.betting_interval(row)[0] for row in x])
        needed[p] = np.median((lows <= 0.5).sum(1))
    assert needed[0.9] < 25 and needed[0.9] < needed[0.7] < 150


def test_what_is_no_row_of_shares_has_no_betting_interval() -> None:
    for x in (np.empty(0), np.array([0.5, 1.5]), np.array([-0.1]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="one row"):
            statistics.betting_interval(x)


def test_a_performance_profile_by_hand() -> None:
    share, low, high = statistics.performance_profile(
        np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0]), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(share, [1, 0.5, 0])
    assert low[1] == 0 and high[1] == 1 and (low[[0, 2]] == high[[0, 2]]).all()
