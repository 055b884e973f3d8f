import math
from dataclasses import replace

import numpy as np
import pytest

from rlhf_control.config import QueryConfig
from rlhf_control.data import (
    COMPARISON,
    CORRECTION,
    DEMONSTRATION,
    GROUPS,
    RANKING,
    RATING,
    REWARD,
    Array,
    Query,
    Segments,
)
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import TRIED_AGAIN
from rlhf_control.queries.choose import ALIKE, Form, Pool, ask_again, choose, find_different
from rlhf_control.queries.corrections import corrections
from rlhf_control.queries.strategies import (
    STRATEGIES,
)
from tests.conftest import random_segments
from tests.queries.members import Members


@pytest.fixture
def model() -> Members:
    return Members(np.random.default_rng(0).normal(size=(5, 17)))


def pool_of(size: int, length: int = 6, seed: int = 0) -> Segments:
    return random_segments(np.random.default_rng(seed), size, length)


def clip_digests(queries: list[Query]) -> list[str]:
    return [q.segments[i].digest() for q in queries for i in range(len(q.segments))]


# -- what is informative


# -- strategies


# -- what looks different


def test_find_different() -> None:
    seen = np.array([[0.0], [0.1], [0.2], [5.0], [9.0]])
    assert find_different(seen, np.array([1, 0, 2, 4, 3]), 3, 1.0).tolist() == [1, 4, 3]  # type: ignore[union-attr]
    assert find_different(seen, np.array([1, 0, 2]), 2, 1.0) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind, size", [(COMPARISON, 2), (RANKING, 3)])
def test_no_identical_clips_are_asked_about_while_there_are_others(
    strategy: str, kind: str, size: int, model: Members
) -> None:
    """28 copies of one clip and 12 others: four queries that look different can be had, the fifth cannot."""
    pool = pool_of(40)
    copies = np.where(np.arange(40) < 28, 0, np.arange(40))
    pool = pool[copies]
    different, total = (12, 14) if size == 2 else (6, 8)
    queries = choose(
        strategy, Pool.of(pool), total, 0, model, np.random.default_rng(0), form=Form(kind, size),
        config=QueryConfig(random_share=0.5),
    )  # fmt: skip
    alike = [q for q in queries if q.strategy.endswith(ALIKE)]
    for q in queries:
        distinct = len({q.segments[i].digest() for i in range(size)})
        assert (distinct < size) == (q in alike)
    assert len(queries) == total and len(alike) >= total - different
    few = choose(strategy, Pool.of(pool), 3, 0, model, np.random.default_rng(0), form=Form(kind, size))
    assert not any(q.strategy.endswith(ALIKE) for q in few)


# -- a round's queries


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [1, 2, 5, 10, 50])
def test_choose_gives_n_distinct_queries_some_of_them_random(model: Members, strategy: str, n: int) -> None:
    pool = pool_of(100)
    queries = choose(strategy, Pool.of(pool), n, 3, model, np.random.default_rng(0))
    clips = clip_digests(queries)
    assert len(queries) == n and len(set(clips)) == 2 * n
    assert [(q.round, q.index, q.kind) for q in queries] == [(3, i, COMPARISON) for i in range(n)]
    if strategy != "uniform" and n > 1:
        assert sum(q.strategy == "uniform" for q in queries) == pytest.approx(0.4 * n, abs=0.5)


@pytest.mark.parametrize("kind, size", [(RANKING, 2), (RANKING, 4), (RATING, 1), (REWARD, 1)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_other_kinds(model: Members, kind: str, size: int, strategy: str) -> None:
    pool = pool_of(60)
    queries = choose(strategy, Pool.of(pool), 8, 0, model, np.random.default_rng(0), form=Form(kind, size))
    assert {q.kind for q in queries} == {kind} and {len(q.segments) for q in queries} == {size}
    assert len(set(clip_digests(queries))) == 8 * size


def test_the_first_round_is_uniform_where_the_strategy_needs_a_model() -> None:
    unfitted = Members(np.zeros((2, 17)), fitted=False)
    for strategy in STRATEGIES:
        names = {q.strategy for q in choose(strategy, Pool.of(pool_of(40)), 8, 0, unfitted, np.random.default_rng(0))}
        assert names == ({"uniform", "k-center"} if strategy == "k-center" else {"uniform"})


def test_sides_and_places_are_random(model: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even for a strategy that wants the higher clip first."""

    def higher_first(pool: Segments, groups: Array, n: int, model: Members, rng: np.random.Generator) -> Array:
        height = pool.obs.mean((1, 2))[groups]
        return np.argsort(height[:, 1] - height[:, 0])

    monkeypatch.setitem(STRATEGIES, "disagreement", higher_first)
    pool = pool_of(40)
    rounds = [choose("disagreement", Pool.of(pool), 5, 0, model, np.random.default_rng(i)) for i in range(100)]
    score = [q.segments.obs.mean((1, 2)) for queries in rounds for q in queries]
    assert 0.42 < np.mean([s[0] > s[1] for s in score]) < 0.58
    assert 0.25 < np.mean([queries[0].strategy == "uniform" for queries in rounds]) < 0.55


@pytest.mark.parametrize("strategy", ["uniform", "bald"])
def test_a_quota_of_recent_clips(model: Members, strategy: str) -> None:
    """Of 100 clips the first 30 are recent."""
    pool = pool_of(100)
    recent = {pool[i].digest() for i in range(30)}
    for share in (0.0, 0.5, 1.0):
        queries = choose(
            strategy,
            Pool.of(pool, 30),
            10,
            0,
            model,
            np.random.default_rng(0),
            config=QueryConfig(recent_share=share),
        )
        only = sum(set(clip_digests([q])) <= recent for q in queries)
        assert only >= 10 * share and (share == 1 or only < 10)
    config = QueryConfig(recent_share=1.0)
    more = choose(strategy, Pool.of(pool, 30), 20, 0, model, np.random.default_rng(0), config=config)
    assert len(set(clip_digests(more))) == 40 and recent <= set(clip_digests(more))  # all of them, and others
    with pytest.raises(UserError, match="51 queries need 102 clips, the pool has 100, 30 of them recent"):
        choose(strategy, Pool.of(pool, 30), 51, 0, model, np.random.default_rng(0), config=config)


@pytest.mark.parametrize("strategy", ["uniform", "bald"])
def test_quotas_of_recent_and_older_clips(model: Members, strategy: str) -> None:
    """Of 100 clips the first 60 are recent; in a first round there are no older ones."""
    pool, config = pool_of(100), QueryConfig(recent_share=0.5, older_share=0.5)
    recent = {pool[i].digest() for i in range(60)}
    for n, older in ((10, 5), (5, 2), (1, 0)):
        queries = choose(strategy, Pool.of(pool, 60), n, 0, model, np.random.default_rng(0), config=config)
        assert len(queries) == n and len(set(clip_digests(queries))) == 2 * n
        assert sum(not set(clip_digests([q])) & recent for q in queries) >= older
        assert sum(set(clip_digests([q])) <= recent for q in queries) >= n // 2
    assert len(choose(strategy, Pool.of(pool), 10, 0, model, np.random.default_rng(0), config=config)) == 10
    config = QueryConfig(older_share=1.0)
    few = choose(strategy, Pool.of(pool, 97), 10, 0, model, np.random.default_rng(0), config=config)
    assert sum(not set(clip_digests([q])) & {pool[i].digest() for i in range(97)} for q in few) == 1
    with pytest.raises(UserError, match="more than the whole"):
        QueryConfig(recent_share=0.6, older_share=0.5)


def test_the_random_ones_are_a_fair_sample_of_the_pool(model: Members) -> None:
    pool, asked = pool_of(20), np.zeros(20)
    place = {pool[i].digest(): i for i in range(20)}
    for seed in range(400):
        for q in choose("bald", Pool.of(pool), 5, 0, model, np.random.default_rng(seed)):
            if q.strategy == "uniform":
                asked[[place[d] for d in clip_digests([q])]] += 1
    expected = 400 * 4 / 20
    assert (np.abs(asked - expected) < 4 * math.sqrt(expected)).all()


def test_the_same_generator_gives_the_same_queries(model: Members) -> None:
    a, b = (choose("bald-k-center", Pool.of(pool_of(60)), 9, 1, model, np.random.default_rng(5)) for _ in range(2))
    assert [(q.strategy, q.segments.digest()) for q in a] == [(q.strategy, q.segments.digest()) for q in b]


def test_bad_requests(model: Members) -> None:
    pool, rng = pool_of(10), np.random.default_rng(0)
    with pytest.raises(UserError, match="did you mean disagreement"):
        choose("disagrement", Pool.of(pool), 2, 0, model, rng)
    with pytest.raises(UserError, match="6 queries need 12 clips"):
        choose("uniform", Pool.of(pool), 6, 0, model, rng)
    with pytest.raises(UserError, match="a rating of 2 clips cannot be"):
        choose("uniform", Pool.of(pool), 2, 0, model, rng, form=Form(RATING))
    with pytest.raises(UserError, match="unknown kind"):
        choose("uniform", Pool.of(pool), 2, 0, model, rng, form=Form(DEMONSTRATION))
    with pytest.raises(UserError, match=r"query\.random_share is 2"):
        QueryConfig(random_share=2)


# -- queries about other clips


def test_asked_again_with_the_sides_swapped(model: Members) -> None:
    asked = choose("uniform", Pool.of(pool_of(20)), 6, 0, model, np.random.default_rng(0))
    again = ask_again(asked, 4, 2, 10, np.random.default_rng(0))
    assert [(q.round, q.index, q.repeat) for q in again] == [(2, 10 + i, 1) for i in range(4)]
    swapped = {q.segments[::-1].digest() for q in asked}
    assert len({q.segments.digest() for q in again} & swapped) == 4
    assert ask_again(again, 9, 3, 0, np.random.default_rng(0))[0].repeat == 2


def test_several_kinds_share_no_clip(model: Members) -> None:
    """What is not free is not asked about, and what is asked about is not free afterwards."""
    pool, queries = Pool.of(pool_of(40)), []
    pool.free[:6] = False
    for kind, size in ((COMPARISON, 2), (RANKING, 4), (RATING, 1)):
        queries += choose("bald", pool, 4, 0, model, np.random.default_rng(0), form=Form(kind, size))
    asked, clips = clip_digests(queries), pool.clips
    assert len(set(asked)) == len(asked) == 4 * (2 + 4 + 1)
    assert not {clips[i].digest() for i in range(6)} & set(asked)
    assert {clips[i].digest() for i in range(6, 40) if not pool.free[i]} == set(asked)
    with pytest.raises(UserError, match="4 queries need 8 clips, the pool has 6"):
        choose("uniform", pool, 4, 0, model, np.random.default_rng(0))


def test_corrections() -> None:
    """The clip first, then the attempt that the annotator names: here the one with the greatest reward."""
    clips, free, seen = pool_of(20), np.ones(20, bool), []
    free[:5] = False
    pool = Pool(clips, 10, free)

    def attempt_again(began: Segments) -> Segments:
        seen.append(began)
        return random_segments(np.random.default_rng(1), len(began), 3, 6)

    def best(attempts: Segments, place: int) -> int:
        assert attempts.obs.shape == (3, 6, 17)
        return int(attempts.env_reward.sum(-1).argmax())

    queries = corrections(pool, 4, 2, attempt_again, best, np.random.default_rng(0))
    assert [(q.round, q.index, q.kind, q.strategy) for q in queries] == [
        (2, i, CORRECTION, TRIED_AGAIN) for i in range(4)
    ]
    recent = {clips[i].digest() for i in range(5, 10)}
    own = [q.segments[0].digest() for q in queries]
    assert set(own) < recent and len(set(own)) == 4 and own == [seen[0][i].digest() for i in range(4)]
    assert free.sum() == 11 and free[10:].all()
    attempts = attempt_again(clips[:4])
    for i, q in enumerate(queries):
        assert q.segments[1].env_reward.sum() == attempts[i].env_reward.sum(-1).max()
    corrections(pool, 2, 0, attempt_again, best, np.random.default_rng(0))  # one is recent: older ones, too
    assert free.sum() == 9
    with pytest.raises(UserError, match="10 corrections need as many clips, the pool has 9 to spare"):
        corrections(pool, 10, 0, attempt_again, best, np.random.default_rng(0))


# -- groups


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_are_of_clips_that_look_alike_and_no_clip_is_asked_about_twice(strategy: str, model: Members) -> None:
    """Of six kinds of clips, six of each: a group is of one kind, the two of a question are of two."""
    pool, kinds = pool_of(36), np.repeat(np.arange(6), 6)
    near = random_segments(np.random.default_rng(1), 6, 6)
    noise = 0.01 * np.random.default_rng(2).standard_normal(pool.obs.shape)
    pool = replace(pool, obs=(near.obs[kinds] + noise).astype(np.float32))
    kind_of = {pool[i].digest(): int(kind) for i, kind in enumerate(kinds)}
    source = Pool.of(pool)
    queries = choose(strategy, source, 4, 0, model, np.random.default_rng(0), form=Form(GROUPS, 6))
    assert [(q.kind, len(q.segments)) for q in queries] == [(GROUPS, 6)] * 4
    assert len(set(clip_digests(queries))) == 24 and source.free.sum() == 12
    for query in queries:
        first, second = (({kind_of[query.segments[i].digest()] for i in half}) for half in (range(3), range(3, 6)))
        assert len(first) == len(second) == 1 and (first != second or query.strategy.endswith(ALIKE))


def test_groups_that_leave_no_others_are_asked_about_alike() -> None:
    pool = pool_of(12)
    pool = pool[np.zeros(12, int)]
    queries = choose(
        "uniform", Pool.of(pool), 2, 0, Members(np.ones((1, 17))), np.random.default_rng(0), form=Form(GROUPS, 6)
    )
    assert [q.strategy for q in queries] == ["uniform" + ALIKE] * 2
    with pytest.raises(UserError, match="two groups 4 or more"):
        choose(
            "uniform", Pool.of(pool), 1, 0, Members(np.ones((1, 17))), np.random.default_rng(0), form=Form(GROUPS, 5)
        )
