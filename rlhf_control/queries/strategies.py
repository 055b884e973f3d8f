"""Query strategies: pure functions that order candidate groups of clips, the best first.

S clips, C candidates, K clips of a query, L steps, E ensemble, P pairs. Where groups of clips are compared, candidates
are (C, 2, G) rather than (C, K): what is said of a clip is said of the mean of a group.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Protocol

import numpy as np

from rlhf_control.data import Array, Segments, mean_over_steps
from rlhf_control.errors import unknown_name

SHORTLIST = 5  # of a hybrid: most informative candidates for each query asked
LEVELS = 8  # quantiles of a clip's observations by which two clips are told apart
MOST_NUMBERS = 512  # of a picture
MIN_STD = 1e-3  # what hardly varies must not be blown up


class Ranker(Protocol):
    """Says what a strategy needs of a reward model."""

    fitted: bool

    def clip_logits(self, clips: Segments) -> Array:
        """Returns logits (E, S) such that member e prefers clip i to j with the probability sigmoid of [e, i] - [e,
        j]."""
        ...


def disagreement_of(p: Array) -> Array:
    """Returns the standard deviation (...,) of the members' probabilities p (E, ...) (arXiv 1706.03741, section
    2.2.4)."""
    return p.std(0)


def entropy_of(p: Array) -> Array:
    """Returns the entropy (...,) in nats of the answer that the members p (E, ...) predict together: near even odds are
    high, whether the members agree on them or not (B-Pref, arXiv 2111.03026, section 5)."""
    return binary_entropy(p.mean(0))


def bald_of(p: Array) -> Array:
    """Returns the mutual information (...,) in nats of the answer and the member that predicts it, H(mean p) - mean
    H(p), for p (E, ...) (Houlsby et al., arXiv 1112.5745, equation 2): members that are sure, each of something
    else."""
    return binary_entropy(p.mean(0)) - binary_entropy(p).mean(0)


def binary_entropy(p: Array) -> Array:
    """Returns -p log p - (1 - p) log(1 - p), in nats."""
    p = np.clip(np.asarray(p, np.float64), 1e-12, 1 - 1e-12)  # in float32 the upper bound would be 1: NaN
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def pair_probabilities(pool: Segments, groups: Array, model: Ranker) -> Array:
    """Computes the members' probability (E, C, P) that the first is preferred, for every pair within each group (C,
    K). A lone clip, K = 1, is paired with the mean of the others. Every clip is scored once."""
    clips, place = np.unique(groups, return_inverse=True)
    logits = model.clip_logits(pool[clips])
    judged = logits[:, place.reshape(groups.shape)]  # (E, C, K)
    judged = judged.mean(-1) if groups.ndim == 3 else judged
    if groups.shape[1] == 1:
        difference = judged - logits.mean(1)[:, None, None]
    else:
        first, second = np.array(list(combinations(range(groups.shape[1]), 2))).T
        difference = judged[..., first] - judged[..., second]
    return np.exp(-np.logaddexp(0, -difference))


def most(value: Array) -> Array:
    """Returns the order of candidates (C,) by their value (C, P), over pairs the mean, the highest first."""
    return np.argsort(-value.mean(-1), kind="stable")


def features(pool: Segments) -> Array:
    """Computes where clips lie for k-center, (S, F): means over the clip of observations and actions, standardised over
    the pool."""
    columns = [numbers(pool.obs), pool.action]
    if pool.mask is None:
        columns = [column.mean(1) for column in columns]
    else:
        columns = [mean_over_steps(column.swapaxes(1, 2), pool.mask[:, None]) for column in columns]
    means = np.concatenate(columns, -1, dtype=np.float64)
    return (means - means.mean(0)) / np.maximum(means.std(0), MIN_STD)


def looks(pool: Segments) -> Array:
    """Computes how clips look, (S, LEVELS * O): quantiles over time of each observation, in standard deviations of the
    pool's steps. Observations are the simulator's state without what nobody sees, how far the body has come. The order
    in time is left out, so that the same gait half a stride later looks the same."""
    seen = numbers(pool.obs)
    if pool.mask is None:
        at = np.linspace(0, seen.shape[1] - 1, LEVELS).round().astype(int)
        levels, spread = np.sort(seen, axis=1).astype(np.float64)[:, at], seen.std((0, 1), dtype=np.float64)
    else:
        ordered = [np.sort(clip[own], axis=0).astype(np.float64) for clip, own in zip(seen, pool.mask, strict=True)]
        levels = np.stack([o[np.linspace(0, len(o) - 1, LEVELS).round().astype(int)] for o in ordered])
        spread = seen[pool.mask].std(0, dtype=np.float64)
    return (levels / np.maximum(spread, MIN_STD)).reshape(len(levels), -1)


def numbers(obs: Array) -> Array:
    """Returns (S, L, O') of observations (S, L, O): all of the numbers, or, of bytes, as many as tell one from
    another."""
    return obs if obs.dtype != np.uint8 else obs[..., :: -(-obs.shape[-1] // MOST_NUMBERS)]


def difference(seen: Array, groups: Array) -> Array:
    """Measures, (C,), how different the two most similar clips of each group (C, K) look: the root mean square over the
    columns of `seen` (S, F). Infinite for a lone clip."""
    pairs = combinations(range(groups.shape[1]), 2)
    at = seen[groups] if groups.ndim == 2 else seen[groups].mean(2)
    apart = [np.square(at[:, i] - at[:, j]).mean(-1) for i, j in pairs]
    return np.sqrt(np.min(apart, axis=0)) if apart else np.full(len(groups), np.inf)


def greedy_k_center(points: Array, groups: Array, n: int) -> Array:
    """Takes up to n of the groups (C, K), no point twice: each next one whose points (S, F) are on the mean farthest
    from the nearest already taken; at first, from the mean of all (Sener and Savarese, arXiv 1708.00489, algorithm
    1)."""
    groups = groups.reshape(len(groups), -1)
    nearest = np.linalg.norm(points - points.mean(0), axis=1)
    free = np.ones(len(points), bool)
    taken: list[int] = []
    while len(taken) < n and free[groups].all(1).any():
        farness = np.where(free[groups].all(1), nearest[groups].mean(1), -1.0)
        taken.append(int(farness.argmax()))
        for clip in groups[taken[-1]]:
            free[clip] = False
            distance = np.linalg.norm(points - points[clip], axis=1)
            nearest = distance if len(taken) == 1 else np.minimum(nearest, distance)
    return np.array(taken, np.int64)


Strategy = Callable[[Segments, Array, int, Ranker, np.random.Generator], Array]


def uniform(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Orders them as they come."""
    return np.arange(len(groups))


def disagreement(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Puts first where the members' probabilities differ most."""
    return most(disagreement_of(pair_probabilities(pool, groups, model)))


def entropy(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Puts first where the ensemble's answer is least sure."""
    return most(entropy_of(pair_probabilities(pool, groups, model)))


def bald(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Puts first where the answer tells most about which member is right."""
    return most(bald_of(pair_probabilities(pool, groups, model)))


def k_center(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Puts first clips that cover the pool."""
    centers = greedy_k_center(features(pool), groups, n)
    return np.concatenate([centers, np.setdiff1d(np.arange(len(groups)), centers)])


def hybrid(informative: Strategy) -> Strategy:
    """Makes a strategy of k-center among the most informative candidates."""

    def strategy(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
        order = informative(pool, groups, n, model, rng)
        best, rest = order[: SHORTLIST * n], order[SHORTLIST * n :]
        return np.concatenate([best[k_center(pool, groups[best], n, model, rng)], rest])

    return strategy


STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "disagreement": disagreement,
    "entropy": entropy,
    "bald": bald,
    "k-center": k_center,
    "disagreement-k-center": hybrid(disagreement),
    "bald-k-center": hybrid(bald),
}


NEEDS_NO_MODEL = ("uniform", "k-center")


def find_strategy(name: str) -> Strategy:
    """Raises UserError for an unknown name."""
    if name not in STRATEGIES:
        raise unknown_name("query strategy", name, STRATEGIES)
    return STRATEGIES[name]
