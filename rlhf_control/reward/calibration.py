"""How well probabilities fit answers: reliability, calibration, evidence against chance. Pure functions."""

import math
from dataclasses import dataclass

import numpy as np

from rlhf_control.data import Array

TEMPERATURES = np.logspace(-1, 1, 81)
LAPSES = np.linspace(0.02, 1.0, 50)  # shares of coin flips mixed in


@dataclass(frozen=True)
class Reliability:
    """Holds a reliability table: what was said, what happened, how often. Empty bins are left out."""

    low: Array  # (B,) bin edges
    high: Array  # (B,)
    count: Array  # (B,)
    probability: Array  # (B,) mean of the probabilities in the bin
    frequency: Array  # (B,) share of the outcomes that came true


def reliability_table(probability: Array, outcome: Array, bins: int = 10) -> Reliability:
    """Sorts probabilities (n,) of binary outcomes (n,) into bins of equal width."""
    place = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = np.flatnonzero(counts)
    means = [np.bincount(place, np.asarray(v, np.float64), bins)[used] / counts[used] for v in (probability, outcome)]
    return Reliability(used / bins, (used + 1) / bins, counts[used], means[0], means[1])


def expected_calibration_error(probability: Array, outcome: Array, bins: int = 10) -> float:
    """Returns the mean over the bins of |frequency - mean probability|, weighted by their counts (Naeini et al. 2015;
    Guo et al., arXiv 1706.04599, eq. 3). It is NaN without outcomes. With few outcomes it is well above 0 even for a
    perfect model."""
    table = reliability_table(probability, outcome, bins)
    gaps = np.abs(table.probability - table.frequency)
    return float((table.count * gaps).sum() / table.count.sum()) if len(gaps) else float("nan")


def both_ways(p_first: Array) -> tuple[Array, Array]:
    """Returns (2n,) probabilities and outcomes of pairs, given the probabilities (n,) of what was preferred. Each pair
    is seen from both sides, so that the table does not depend on which clip stands first."""
    return np.concatenate([p_first, 1 - p_first]), np.repeat([1.0, 0.0], len(p_first))


def best_temperature(logits: Array, held: Array) -> float:
    """Returns the temperature T, of TEMPERATURES, under which the stated preferences are likeliest (Guo et al., arXiv
    1706.04599, section 4.2); 1 if no member may speak. logits: (E, n), of what was preferred above what was not; held:
    (E, n) bool, which members may speak about it; their mean probability counts."""
    asked = held.any(0)
    if not asked.any():
        return 1.0
    scaled = logits[:, asked] / TEMPERATURES[:, None, None]
    p = (np.exp(-np.logaddexp(0, -scaled)) * held[:, asked]).sum(1) / held[:, asked].sum(0)
    return float(TEMPERATURES[np.argmin(-np.log(np.maximum(p, 1e-12)).sum(1))])


def log_odds(p: Array, answers: float) -> Array:
    """Returns, for each share e of coin flips in LAPSES (50,), by how many nats `answers` independent answers are
    likelier under a model's probabilities p (P,) of what was preferred than under coin flips alone:

        answers * mean log(2 (e / 2 + (1 - e) p))

    Without answers it is 0.
    """
    if not len(p):
        return np.zeros(len(LAPSES))
    mixed = LAPSES[:, None] / 2 + (1 - LAPSES[:, None]) * np.asarray(p, np.float64)
    return answers * np.log(2 * mixed).mean(1)


def evidence(p: Array, answers: float) -> float:
    """Returns the largest of `log_odds`: mixed with coin flips as suits them best, an overconfident model is not
    refused for its overconfidence; with coin flips alone it is one, so this is never below 0."""
    return float(log_odds(p, answers).max())


def log_wealth(bets: Array) -> float:
    """Returns the logarithm of what a gambler has who began with 1, spread evenly over LAPSES, and bet at even odds on
    answers before they were given; `bets` (50,) is the sum of their `log_odds`. On coin flips it is a martingale, so
    the chance that it is ever above log(x) is 1 / x at most (Ville; arXiv 2210.01948), whatever was asked."""
    return float(np.logaddexp.reduce(bets) - np.log(len(bets)))


def surprise(right: int, asked: int, right_before: int, asked_before: int) -> float:
    """Returns the chance that of `asked` answers no more than `right` are as predicted if these are predicted as well
    as the `asked_before` were, of which `right_before` were as predicted: Fisher's exact test, one-sided."""
    total = right + right_before
    ways = [math.comb(asked, k) * math.comb(asked_before, total - k) for k in range(min(asked, total) + 1)]
    return sum(ways[: right + 1]) / sum(ways)
