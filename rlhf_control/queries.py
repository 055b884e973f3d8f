"""Which clips to ask about: plain functions.

A strategy takes (pool, groups, n, model, rng) and returns the order, best first, of `groups` (C, K): random candidate
queries, each K indices of different clips in the pool (S, L, ...). `choose` takes the first n of that order that look
different and share no clip. To add a strategy, write the function and name it in STRATEGIES.

S clips of the pool, C candidates, K clips of a query, P pairs of these, E ensemble.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol

import numpy as np

from rlhf_control.config import QueryConfig
from rlhf_control.data import COMPARISON, CORRECTION, DEMONSTRATION, RANKING, RATING, REWARD, Array, Query, Segments
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.wording import counted

SHORTLIST = 5  # of a hybrid: most informative candidates for each query asked
LEVELS = 8  # quantiles of a clip's observations by which two clips are told apart
DEFAULT = QueryConfig()
MIN_STD = 1e-3  # what hardly varies must not be blown up
TRIED_AGAIN = "tried again"  # the strategy of corrections
AT_RANDOM = ("uniform", TRIED_AGAIN)  # strategies of queries about clips that no model chose
ALIKE = ", looks alike"  # added to the strategy of queries whose clips are nearer than `min_difference`


class Ranker(Protocol):
    """What a strategy needs of a reward model."""

    fitted: bool

    def clip_logits(self, clips: Segments) -> Array:
        """(E, S) such that member e prefers clip i to j with the probability sigmoid of [e, i] - [e, j]."""
        ...


# -- what is informative


def disagreement_of(p: Array) -> Array:
    """(...,) standard deviation of the members' probabilities p (E, ...) (arXiv 1706.03741, section 2.2.4)."""
    return p.std(0)


def entropy_of(p: Array) -> Array:
    """(...,) entropy in nats of the answer that the members p (E, ...) predict together: near even odds are high,
    whether the members agree on them or not (B-Pref, arXiv 2111.03026, section 5)."""
    return binary_entropy(p.mean(0))


def bald_of(p: Array) -> Array:
    """(...,) mutual information in nats of the answer and the member that predicts it, H(mean p) - mean H(p), for
    p (E, ...) (Houlsby et al., arXiv 1112.5745, equation 2): members that are sure, each of something else."""
    return binary_entropy(p.mean(0)) - binary_entropy(p).mean(0)


def binary_entropy(p: Array) -> Array:
    """-p log p - (1 - p) log(1 - p), in nats."""
    p = np.clip(np.asarray(p, np.float64), 1e-12, 1 - 1e-12)  # in float32 the upper bound would be 1: NaN
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def pair_probabilities(pool: Segments, groups: Array, model: Ranker) -> Array:
    """(E, C, P): the members' probability that the first is preferred, for every pair within each group (C, K).
    A lone clip, K = 1, is paired with the mean of the others. Every clip is scored once."""
    clips, place = np.unique(groups, return_inverse=True)
    logits = model.clip_logits(pool[clips])
    place = place.reshape(groups.shape)
    if groups.shape[1] == 1:
        difference = logits[:, place] - logits.mean(1)[:, None, None]
    else:
        first, second = np.array(list(combinations(range(groups.shape[1]), 2))).T
        difference = logits[:, place[:, first]] - logits[:, place[:, second]]
    return np.exp(-np.logaddexp(0, -difference))


def most(value: Array) -> Array:
    """The order of candidates (C,) by their value (C, P), over pairs the mean, the highest first."""
    return np.argsort(-value.mean(-1), kind="stable")


# -- what is different


def features(pool: Segments) -> Array:
    """(S, F) where clips lie for k-center: means over the clip of observations and actions, standardised over the
    pool."""
    means = np.concatenate([pool.obs.mean(1), pool.action.mean(1)], -1, dtype=np.float64)
    return (means - means.mean(0)) / np.maximum(means.std(0), MIN_STD)


def looks(pool: Segments) -> Array:
    """(S, LEVELS * O) how clips look: quantiles over time of each observation, in standard deviations of the pool's
    steps. Observations are the simulator's state without what nobody sees, how far the body has come. The order in
    time is left out, so that the same gait half a stride later looks the same."""
    obs = np.sort(pool.obs, axis=1).astype(np.float64)
    at = np.linspace(0, obs.shape[1] - 1, LEVELS).round().astype(int)
    return (obs[:, at] / np.maximum(pool.obs.std((0, 1), dtype=np.float64), MIN_STD)).reshape(len(obs), -1)


def difference(seen: Array, groups: Array) -> Array:
    """(C,) how different the two most similar clips of each group (C, K) look: the root mean square over the columns
    of `seen` (S, F). Infinite for a lone clip."""
    pairs = combinations(range(groups.shape[1]), 2)
    apart = [np.square(seen[groups[:, i]] - seen[groups[:, j]]).mean(-1) for i, j in pairs]
    return np.sqrt(np.min(apart, axis=0)) if apart else np.full(len(groups), np.inf)


def greedy_k_center(points: Array, groups: Array, n: int) -> Array:
    """Up to n of the groups (C, K), no point twice: each next one whose points (S, F) are on the mean farthest from
    the nearest already taken; at first, from the mean of all (Sener and Savarese, arXiv 1708.00489, algorithm 1)."""
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


# -- strategies

Strategy = Callable[[Segments, Array, int, Ranker, np.random.Generator], Array]


def uniform(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """As they come."""
    return np.arange(len(groups))


def disagreement(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Where the members' probabilities differ most."""
    return most(disagreement_of(pair_probabilities(pool, groups, model)))


def entropy(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Where the ensemble's answer is least sure."""
    return most(entropy_of(pair_probabilities(pool, groups, model)))


def bald(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Where the answer tells most about which member is right."""
    return most(bald_of(pair_probabilities(pool, groups, model)))


def k_center(pool: Segments, groups: Array, n: int, model: Ranker, rng: np.random.Generator) -> Array:
    """Clips that cover the pool."""
    centers = greedy_k_center(features(pool), groups, n)
    return np.concatenate([centers, np.setdiff1d(np.arange(len(groups)), centers)])


def hybrid(informative: Strategy) -> Strategy:
    """k-center among the most informative candidates."""

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


# -- a round's queries


def choose(
    strategy: str, pool: Segments, n: int, round: int, model: Ranker, rng: np.random.Generator, *,
    config: QueryConfig = DEFAULT, kind: str = COMPARISON, clips_per_query: int = 2, recent: int | None = None,
    free: Array | None = None,
) -> list[Query]:  # fmt: skip
    """n queries for a label round, no clip twice: `random_share` of them uniform, the rest by the strategy (all uniform
    while that lacks a fitted model), in random order. The first `recent` clips of the pool are the recent ones
    (default: all). Of the clips that are `free` (S,) bool (default: all), those that are used are marked as not free:
    so several kinds of queries share no clip either.

    A query whose clips look alike is asked only if the pool has no others left, and its strategy says so. Which clip
    stands first is random, so sides carry no information. Raises UserError for a pool that is too small.
    """
    find_strategy(strategy)
    check_kind(kind, clips_per_query)
    free = np.ones(len(pool), bool) if free is None else free
    recent = len(pool) if recent is None else recent
    needed = n * clips_per_query
    if free.sum() < needed or (config.recent_share and free[:recent].sum() < needed):
        raise UserError(
            f"{counted(n, 'query needs', 'queries need')} {counted(needed, 'clip')}, the pool has {free.sum()}, "
            f"{free[:recent].sum()} of them recent; raise --ppo.num-steps or --ppo.num-envs, or shorten --clip-seconds"
        )
    chosen = round_half_up((1 - config.random_share) * n) if model.fitted or strategy in NEEDS_NO_MODEL else 0
    seen = looks(pool)
    picked: list[tuple[str, Array]] = []
    # The random ones first: drawn from the whole pool, they are a fair sample of it.
    for name, count in (("uniform", n - chosen), (strategy, chosen)):
        of_recent = round_half_up(config.recent_share * count)
        room = min(count - of_recent, free[recent:].sum() // clips_per_query)
        of_older = min(round_half_up(config.older_share * count), int(room))
        anywhere = (0, len(pool), count - of_recent - of_older)
        older = [(recent, len(pool), of_older)] if of_older else []
        for first, last, some in ((0, recent, of_recent), *older, anywhere):
            clips = first + np.flatnonzero(free[first:last])
            groups = pick(name, pool, clips, some, clips_per_query, seen, model, rng, config)
            for _, group in groups:
                free[group] = False
            picked += groups
    # Places are random, or an annotator who tires would spoil one kind more than the other; sides are, whatever a
    # strategy prefers.
    order = rng.permutation(n)
    return [
        Query(round, index, picked[i][0], pool[rng.permutation(picked[i][1])], kind) for index, i in enumerate(order)
    ]


def pick(
    strategy: str, pool: Segments, clips: Array, n: int, size: int, seen: Array, model: Ranker,
    rng: np.random.Generator, config: QueryConfig,
) -> list[tuple[str, Array]]:  # fmt: skip
    """n disjoint groups of `size` of these clips, each with how it was chosen: as the strategy orders random
    candidates; where these do not suffice, any that look different; at last those that look alike."""
    candidates = random_groups(clips, size, n * config.candidates, rng)
    candidates = candidates[difference(seen, candidates) >= config.min_difference]
    if len(candidates):
        candidates = candidates[STRATEGIES[strategy](pool, candidates, n, model, rng)]
    groups = disjoint(candidates, n)
    left = rng.permutation(np.setdiff1d(clips, groups))
    while len(groups) < n and (found := find_different(seen, left, size, config.min_difference)) is not None:
        groups.append(found)
        left = left[~np.isin(left, found)]
    alike = left[: (n - len(groups)) * size].reshape(-1, size)
    return [(strategy, group) for group in groups] + [(strategy + ALIKE, group) for group in alike]


def random_groups(clips: Array, size: int, at_least: int, rng: np.random.Generator) -> Array:
    """(C, size) of the clips (S,), in groups of different ones: all of them dealt out, again and again until there
    are `at_least` groups."""
    deal = len(clips) // size
    times = -(-at_least // deal) if deal else 0
    return np.concatenate(
        [
            np.zeros((0, size), np.int64),
            *(rng.permutation(clips)[: deal * size].reshape(deal, size) for _ in range(times)),
        ]
    )


def disjoint(groups: Array, n: int) -> list[Array]:
    """The first n of the groups (C, K) that share no clip with one before them; fewer if there are no more."""
    used: set[int] = set()
    taken: list[Array] = []
    for group in groups:
        if len(taken) < n and used.isdisjoint(group):
            used |= set(group)
            taken.append(group)
    return taken


def find_different(seen: Array, clips: Array, size: int, least: float) -> Array | None:
    """The first `size` of the clips that differ by `least` from each other, found greedily; None if there are none."""
    for k, first in enumerate(clips):
        group, others = [first], clips[k + 1 :]
        while len(group) < size and len(others):
            pairs = np.stack([np.full(len(others), group[-1]), others], 1)
            others = others[difference(seen, pairs) >= least]
            group += others[:1].tolist()
        if len(group) == size:
            return np.array(group)
    return None


def check_kind(kind: str, clips: int) -> None:
    """Raises UserError for a kind that cannot be asked about this many clips of a pool."""
    fits = {COMPARISON: clips == 2, RANKING: clips >= 2, RATING: clips == 1, REWARD: clips == 1}
    if kind not in fits:
        raise unknown_name("kind of query about the policy's own clips", kind, fits)
    if not fits[kind]:
        raise UserError(
            f"a {kind} of {counted(clips, 'clip')} cannot be; a comparison has 2, a ranking 2 or more, the others 1"
        )


def ask_again(asked: Sequence[Query], n: int, round: int, index: int, rng: np.random.Generator) -> list[Query]:
    """n of the queries that were asked before (all, if there are fewer), at the places from `index` of this round: with
    their clips the other way round, so that the answers show both self-consistency and position bias."""
    again = [asked[i] for i in rng.permutation(len(asked))[:n]]
    return [
        replace(q, round=round, index=index + k, segments=q.segments[::-1], repeat=q.repeat + 1)
        for k, q in enumerate(again)
    ]


def demonstrations(
    shown: Segments, pool: Segments, n: int, round: int, index: int, rng: np.random.Generator
) -> list[Query]:
    """n queries that set a clip of the demonstrator's (S', L, ...) above one of the policy's own, at the places from
    `index` of this round; none of the policy's twice."""
    if len(pool) < n:
        raise UserError(f"{n} demonstrations need as many of the policy's clips, the pool has {len(pool)}")
    theirs, own = rng.integers(len(shown), size=n), rng.permutation(len(pool))[:n]
    return [
        Query(round, index + k, DEMONSTRATION, Segments.stack([shown[i], pool[j]]), DEMONSTRATION)
        for k, (i, j) in enumerate(zip(theirs, own, strict=True))
    ]


def corrections(
    pool: Segments, n: int, round: int, try_again: Callable[[Segments], Segments], best: Callable[[Segments, int], int],
    rng: np.random.Generator, *, recent: int, free: Array,
) -> list[Query]:  # fmt: skip
    """n queries that set a better version of a recent clip beside it: of the policy's new tries from the clip's first
    state, `try_again(clips (n, L, ...))` (n, M, L, ...), the one that the annotator names, `best(tries (M, L, ...),
    place)`. The first `recent` clips of the pool (S, L, ...) are the recent ones; `free` as in `choose`.

    What it costs: n * M * L environment steps, which are not among those the policy learns from, and of the annotator
    a look at M + 1 clips; it counts as one answer. The tries may all be worse than the clip, and the answer then says
    so: the annotator still ranks the two.
    """
    if free[:recent].sum() < n:
        raise UserError(f"{n} corrections need as many recent clips, the pool has {free[:recent].sum()} to spare")
    chosen = rng.permutation(np.flatnonzero(free[:recent]))[:n]
    free[chosen] = False
    tries, queries = try_again(pool[chosen]), []
    for index, clip in enumerate(chosen):
        pair = Segments.stack([pool[clip], tries[index][best(tries[index], index)]])
        queries.append(Query(round, index, TRIED_AGAIN, pair, CORRECTION))
    return queries


def round_half_up(x: float) -> int:
    return int(np.floor(x + 0.5))
