import numpy as np
import pytest

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
