"""Interquartile means, bootstrap intervals and curves on a common grid: pure functions."""

from collections.abc import Sequence

import numpy as np

from rlhf_control.data import Array

TRIM = 0.25  # the share of the runs left out on each side of an interquartile mean
RESAMPLES = 2000
LEVEL = 0.95


def interquartile_mean(x: Array, axis: int = 0) -> Array:
    """The mean of the middle half along `axis`.

    The convention of rliable, `scipy.stats.trim_mean(x, 0.25)`: floor(n / 4) values are dropped on each side and the
    rest count fully, so with 3 runs or fewer this is the plain mean.
    """
    ordered = np.sort(np.asarray(x, np.float64), axis=axis)
    n = ordered.shape[axis]
    if n == 0:
        raise ValueError("the interquartile mean of nothing")
    cut = int(TRIM * n)
    return np.take(ordered, range(cut, n - cut), axis=axis).mean(axis=axis)


def bootstrap_interval(
    scores: Array, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[Array, Array]:
    """Percentile bootstrap of the interquartile mean over runs: `scores` (R,) or (R, X) -> (low, high), () or (X,).

    Whole runs are resampled, the same ones at every x. One run says nothing about others: NaN. Few runs say little:
    with 3 the 95 % interval is simply from the lowest to the highest, and it covers less than 95 %.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim not in (1, 2) or len(scores) == 0:
        raise ValueError(f"scores has shape {scores.shape}; it must be (R,) or (R, X) with R > 0")
    runs = len(scores)
    if runs == 1:
        return np.full(scores.shape[1:], np.nan), np.full(scores.shape[1:], np.nan)
    chosen = rng.integers(runs, size=(resamples, runs))
    columns = scores.reshape(runs, -1).T  # one x at a time: (resamples, R, X) at once would take gigabytes
    means = np.stack([interquartile_mean(column[chosen], axis=1) for column in columns], axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low.reshape(scores.shape[1:]), high.reshape(scores.shape[1:])


def moving_mean(y: Array, window: int) -> Array:
    """(I,) -> (I,): the mean over `window` neighbours, of which there are fewer at the ends."""
    before, after = (window - 1) // 2, window // 2
    return np.array([y[max(0, i - before) : i + after + 1].mean() for i in range(len(y))])


def on_common_grid(series: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Curves (x, y), each x increasing, at the same x: (X,), (R, X), linear between measurements.

    The grid covers the range in which all of them were measured, with the points of the one that has the fewest there
    and both ends; curves that already share their x are not changed. Empty when there is no such range.
    """
    low, high = max(x[0] for x, _ in series), min(x[-1] for x, _ in series)
    if low > high:
        return np.empty(0), np.empty((len(series), 0))
    inside = [x[(low <= x) & (x <= high)] for x, _ in series]
    grid = np.union1d(min(inside, key=len), [low, high])
    return grid, np.stack([np.interp(grid, x, y) for x, y in series])
