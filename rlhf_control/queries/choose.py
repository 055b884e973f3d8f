"""Which clips to ask about: plain functions.

A strategy takes (pool, groups, n, model, rng) and returns the order, best first, of `groups` (C, K): random candidate
queries, each K indices of different clips in the pool (S, L, ...). `choose` takes the first n of that order that look
different and share no clip. To add a strategy, write the function and name it in STRATEGIES.

S clips of the pool, C candidates, K clips of a query, P pairs of these, E ensemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from rlhf_control.config import QueryConfig
from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, REWARD, SUCCESS, Array, Query, Segments
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.queries.strategies import (
    NEEDS_NO_MODEL,
    STRATEGIES,
    Ranker,
    difference,
    find_strategy,
    looks,
)
from rlhf_control.runs.progress import say_once
from rlhf_control.wording import counted

DEFAULT = QueryConfig()
ALIKE = ", looks alike"  # added to the strategy of queries whose clips are nearer than `min_difference`


@dataclass
class Pool:
    """Holds the clips that queries are made of, and which of them are still free."""

    clips: Segments  # (S, L, ...)
    recent: int  # so many of them, the first, are recent
    free: Array  # (S,) bool; those that a query takes are no longer free, so several kinds of queries share no clip
    context: Array | None = None  # (S,) numbers: only clips of one number are compared; None: any

    @classmethod
    def of(cls, clips: Segments, recent: int | None = None) -> "Pool":
        """Takes all of these clips as free and, unless told otherwise, as recent."""
        return cls(clips, len(clips) if recent is None else recent, np.ones(len(clips), bool))

    @cached_property
    def looks(self) -> Array:
        """Returns the clips by how they look, (S, F): see `strategies.looks`; text differs if a token does."""
        if self.clips.obs.dtype.kind == "i" and self.context is not None:
            return last_seen(self.clips) * np.sqrt(self.clips.obs.shape[-1])
        return looks(self.clips)


def last_seen(clips: Segments) -> Array:
    """Returns what clips (S, L, ...) end with, (S, O) float64."""
    steps = np.full(len(clips), clips.obs.shape[1]) if clips.mask is None else clips.mask.sum(1)
    return clips.next_obs[np.arange(len(clips)), steps - 1].astype(np.float64)


def contexts(clips: Segments) -> Array:
    """Numbers clips (S, L, ...) by what they begin with, (S,): replies by their prompt."""
    return np.unique(clips.obs[:, 0], axis=0, return_inverse=True)[1].reshape(-1)


class Form(NamedTuple):
    """Says what a query asks for, and of how many clips."""

    kind: str = COMPARISON
    clips: int = 2


PAIR = Form()


# -- a round's queries


def choose(
    strategy: str, pool: Pool, n: int, round: int, model: Ranker, rng: np.random.Generator, *,
    form: Form = PAIR, config: QueryConfig = DEFAULT,
) -> list[Query]:  # fmt: skip
    """Returns n queries for a label round, no clip twice, in random order: `random_share` of them uniform, the rest by
    the strategy (all uniform while that lacks a fitted model). The clips that they take are no longer free.

    A query whose clips look alike is asked only if the pool has no others left, and its strategy says so. Which clip
    stands first is random, so sides carry no information. Where there are too few recent clips for their share, others
    stand in. Raises UserError for a pool that is too small.
    """
    find_strategy(strategy)
    check_kind(*form)
    free, recent, needed = pool.free, pool.recent, n * form.clips
    if free.sum() < needed:
        raise UserError(
            f"{counted(n, 'query needs', 'queries need')} {counted(needed, 'clip')}, the pool has {free.sum()}, "
            f"{free[:recent].sum()} of them recent; raise --ppo.num-steps or --ppo.num-envs, or shorten --clip-seconds"
        )
    chosen = round_half_up((1 - config.random_share) * n) if model.fitted or strategy in NEEDS_NO_MODEL else 0
    picked: list[tuple[str, Array]] = []
    # The random ones first: drawn from the whole pool, they are a fair sample of it.
    for name, count in (("uniform", n - chosen), (strategy, chosen)):
        of_recent = min(round_half_up(config.recent_share * count), int(free[:recent].sum() // form.clips))
        room = min(count - of_recent, free[recent:].sum() // form.clips)
        of_older = min(round_half_up(config.older_share * count), int(room))
        anywhere = (0, len(free), count - of_recent - of_older)
        older = [(recent, len(free), of_older)] if of_older else []
        for first, last, some in ((0, recent, of_recent), *older, anywhere):
            clips = first + np.flatnonzero(free[first:last])
            groups = pick(name, pool, clips, some, form, model, rng, config)
            for _, group in groups:
                free[group] = False
            picked += groups
    # Places are random, or an annotator who tires would spoil one kind more than the other; sides are, whatever a
    # strategy prefers.
    order = rng.permutation(len(picked))
    if len(picked) < n:
        say_once(
            f"rlhf-control: only {len(picked)} of {counted(n, 'question')}: too few replies to the same prompts yet"
        )
    return [
        Query(round, index, picked[i][0], pool.clips[in_any_order(picked[i][1], form, rng)], form.kind)
        for index, i in enumerate(order)
    ]


def pick(
    strategy: str, pool: Pool, clips: Array, n: int, form: Form, model: Ranker, rng: np.random.Generator,
    config: QueryConfig,
) -> list[tuple[str, Array]]:  # fmt: skip
    """Returns n disjoint groups of these clips, each with how it was chosen: as the strategy orders random candidates;
    where these do not suffice, any that look different; at last those that look alike."""
    compared = form.kind == GROUPS
    deal = partial(pairs_of_groups, pool.looks) if compared else partial(random_groups, context=pool.context)
    candidates = deal(clips, form.clips, n * config.candidates, rng)
    candidates = candidates[difference(pool.looks, candidates) >= config.min_difference]
    if len(candidates):
        candidates = candidates[STRATEGIES[strategy](pool.clips, candidates, n, model, rng)]
    groups = disjoint(candidates.reshape(len(candidates), form.clips), n)
    left = rng.permutation(np.setdiff1d(clips, groups))
    if pool.context is not None and not compared:
        rest = random_groups(left, form.clips, 1, rng, pool.context)
        alike = difference(pool.looks, rest) < config.min_difference
        groups = [*groups, *rest[~alike]][:n]
        return [(strategy, group) for group in groups] + [
            (strategy + ALIKE, group) for group in rest[alike][: n - len(groups)]
        ]
    while not compared and len(groups) < n:
        if (found := find_different(pool.looks, left, form.clips, config.min_difference)) is None:
            break
        groups.append(found)
        left = left[~np.isin(left, found)]
    alike = deal(left, form.clips, 1, rng) if compared else left[: (n - len(groups)) * form.clips]
    return [(strategy, group) for group in groups] + [
        (strategy + ALIKE, group) for group in alike.reshape(-1, form.clips)[: n - len(groups)]
    ]


def in_any_order(clips: Array, form: Form, rng: np.random.Generator) -> Array:
    """Returns the clips (K,) in a random order; those of a group stay together."""
    if form.kind != GROUPS:
        return rng.permutation(clips)
    return np.concatenate([rng.permutation(half) for half in rng.permutation(clips.reshape(2, -1))])


def pairs_of_groups(seen: Array, clips: Array, size: int, at_least: int, rng: np.random.Generator) -> Array:
    """Deals all clips (S,) out in groups that look alike, a random one and those nearest to it by `seen` (S, F), and
    pairs these at random, (C, 2, size / 2), again and again until there are `at_least` pairs."""
    each, deal = size // 2, len(clips) // size
    found: list[Array] = []
    for _ in range(-(-at_least // deal) if deal else 0):
        left, groups = rng.permutation(clips), []
        for _ in range(2 * deal):
            nearest = np.argsort(np.square(seen[left] - seen[left[0]]).sum(-1), kind="stable")
            groups.append(left[nearest[:each]])  # itself first
            left = left[np.sort(nearest[each:])]
        found.append(np.stack(groups)[rng.permutation(2 * deal)].reshape(deal, 2, each))
    return np.concatenate([np.zeros((0, 2, each), np.int64), *found])


def random_groups(
    clips: Array, size: int, at_least: int, rng: np.random.Generator, context: Array | None = None
) -> Array:
    """Deals all clips (S,) out in groups of different ones, (C, size), again and again until there are `at_least`
    groups; with contexts (by clip), in groups of one context."""
    if context is not None:
        found = [np.zeros((0, size), np.int64)]
        while sum(map(len, found)) < at_least and len(dealt := groups_within(rng.permutation(clips), size, context)):
            found.append(rng.permutation(dealt))
        return np.concatenate(found)
    deal = len(clips) // size
    times = -(-at_least // deal) if deal else 0
    return np.concatenate(
        [
            np.zeros((0, size), np.int64),
            *(rng.permutation(clips)[: deal * size].reshape(deal, size) for _ in range(times)),
        ]
    )


def groups_within(clips: Array, size: int, context: Array) -> Array:
    """Returns groups (C, size) of those clips (S,), in their order, that have the same context."""
    clips = clips[np.argsort(context[clips], kind="stable")]
    _, first, count = np.unique(context[clips], return_index=True, return_counts=True)
    place = np.arange(len(clips)) - np.repeat(first, count)
    return clips[place < np.repeat(count - count % size, count)].reshape(-1, size)


def disjoint(groups: Array, n: int) -> list[Array]:
    """Returns the first n of the groups (C, K) that share no clip with one before them; fewer if there are no more."""
    used: set[int] = set()
    taken: list[Array] = []
    for group in groups:
        if len(taken) < n and used.isdisjoint(group):
            used |= set(group)
            taken.append(group)
    return taken


def find_different(seen: Array, clips: Array, size: int, least: float) -> Array | None:
    """Finds, greedily, the first `size` of the clips that differ by `least` from each other; None if there are
    none."""
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
    fits = {COMPARISON: clips == 2, RANKING: clips >= 2, **dict.fromkeys((RATING, REWARD, SUCCESS), clips == 1)}
    fits[GROUPS] = clips >= 4 and clips % 2 == 0
    if kind not in fits:
        raise unknown_name("kind of query about the policy's own clips", kind, fits)
    if not fits[kind]:
        raise UserError(
            f"a {kind} of {counted(clips, 'clip')} cannot be; a comparison has 2, a ranking 2 or more, two groups "
            "4 or more and as many each, the others 1"
        )


def ask_again(asked: Sequence[Query], n: int, round: int, index: int, rng: np.random.Generator) -> list[Query]:
    """Repeats n of the queries that were asked before (all, if there are fewer), at the places from `index` of this
    round: with their clips the other way round, so that the answers show both self-consistency and position bias."""
    again = [asked[i] for i in rng.permutation(len(asked))[:n]]
    return [
        replace(q, round=round, index=index + k, segments=q.segments[::-1], repeat=q.repeat + 1)
        for k, q in enumerate(again)
    ]


def round_half_up(x: float) -> int:
    return int(np.floor(x + 0.5))
