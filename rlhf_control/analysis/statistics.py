"""Interquartile means, intervals, comparisons and curves on a common grid: pure functions."""

from collections.abc import Sequence

import numpy as np

from rlhf_control.data import Array

TRIM = 0.25  # the share of the runs left out on each side of an interquartile mean
RESAMPLES = 2000
LEVEL = 0.95
GRID = 1000  # steps between the candidates of a mean in [0, 1]
MOST_AT_STAKE = 0.75  # of a gambler's capital in a bet; Waudby-Smith and Ramdas recommend 1/2 or 3/4


def interquartile_mean(x: Array, axis: int = 0) -> Array:
    """Returns the mean of the middle half along `axis`.

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
    """Computes the percentile bootstrap of the interquartile mean over runs: `scores` (R,) or (R, X) -> (low, high), ()
    or (X,).

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
    """Returns the mean over `window` neighbours, of which there are fewer at the ends: (I,) -> (I,)."""
    before, after = (window - 1) // 2, window // 2
    return np.array([y[max(0, i - before) : i + after + 1].mean() for i in range(len(y))])


def on_common_grid(series: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Brings curves (x, y), each x increasing, to the same x: (X,), (R, X), linear between measurements.

    The grid covers the range in which all of them were measured, with the points of the one that has the fewest there
    and both ends; curves that already share their x are not changed. Empty when there is no such range.
    """
    low, high = max(x[0] for x, _ in series), min(x[-1] for x, _ in series)
    if low > high:
        return np.empty(0), np.empty((len(series), 0))
    inside = [x[(low <= x) & (x <= high)] for x, _ in series]
    grid = np.union1d(min(inside, key=len), [low, high])
    return grid, np.stack([np.interp(grid, x, y) for x, y in series])


# -- comparisons: n pairs, R and S runs, X thresholds


def outcomes(a: Array, b: Array) -> Array:
    """Return (n,) of two sides' numbers (n,): 1 where a is larger, 0 where b is, 1/2 where they are equal."""
    return (1 + np.sign(np.asarray(a, np.float64) - np.asarray(b, np.float64))) / 2


def betting_interval(x: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Return (low, high), (n,) each, of the mean of observations (n,) in [0, 1], after each of them. With probability
    `level` all n intervals hold the mean.

    Two gamblers bet on each candidate mean m, one that the truth is above it, one that it is below; by m itself neither
    can expect to win, so an m from which one of them has become 2 / (1 - level) times as rich is dropped for good.
    The hedged capital process with predictable plug-in bets of Waudby-Smith and Ramdas, "Estimating means of bounded
    random variables by betting" (JRSS B 2024, arXiv 2010.09686), Theorem 3 and Section 4.2. Raises ValueError.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not len(x) or (x < 0).any() or (x > 1).any():
        raise ValueError("observations must be one row of numbers in [0, 1]")
    candidates = np.arange(GRID + 1) / GRID
    capital = np.zeros((2, GRID + 1))  # logarithms
    alive = np.ones(GRID + 1, bool)
    with np.errstate(divide="ignore"):  # whoever bets against an edge may bet all they like
        most_above, most_below = MOST_AT_STAKE / candidates, MOST_AT_STAKE / (1 - candidates)
    low, high = np.empty(len(x)), np.empty(len(x))
    total, squares, variance = 0.0, 0.0, 0.25
    for t, value in enumerate(x, 1):
        bet = np.sqrt(2 * np.log(2 / (1 - level)) / (variance * t * np.log(1 + t)))
        bets = np.stack([np.minimum(bet, most_above), -np.minimum(bet, most_below)])
        capital += np.log1p(bets * (value - candidates))
        alive &= capital.max(0) < np.log(2 / (1 - level))
        kept = np.flatnonzero(alive)
        if len(kept):  # with what lies between them and the next that was dropped
            low[t - 1], high[t - 1] = max(kept[0] - 1, 0) / GRID, min(kept[-1] + 1, GRID) / GRID
        else:  # no mean explains them: they are not of one distribution
            low[t - 1], high[t - 1] = low[t - 2], high[t - 2]
        total += value
        squares += (value - (0.5 + total) / (t + 1)) ** 2
        variance = (0.25 + squares) / (t + 1)
    return low, high


def improvement(a: Array, b: Array, rng: np.random.Generator, level: float = LEVEL) -> tuple[float, float, float]:
    """Return the probability of improvement of runs (R,) over runs (S,), every one against every other, with its
    percentile bootstrap interval over the runs of both sides."""
    every = outcomes(*np.broadcast_arrays(a[:, None], b[None]))
    rows, columns = (rng.integers(n, size=(RESAMPLES, n)) for n in every.shape)
    means = np.array([every[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(every.mean()), float(low), float(high)


def performance_profile(
    scores: Array, thresholds: Array, rng: np.random.Generator, level: float = LEVEL
) -> tuple[Array, Array, Array]:
    """Return the share of scores (R,) above each threshold (X,), and its bootstrap interval over the runs, (X,) each
    (score distributions, Section 4.2 of arXiv 2108.13264)."""
    above = (scores[:, None] > thresholds).astype(np.float64)
    chosen = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.quantile(above[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return above.mean(0), low, high
