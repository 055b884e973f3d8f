"""How strategies order candidates: by hand, by their definitions, and against chance."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config import QueryConfig
from rlhf_control.data import Segments
from rlhf_control.queries.choose import Pool, choose, random_groups
from rlhf_control.queries.strategies import (
    STRATEGIES,
    bald_of,
    binary_entropy,
    difference,
    disagreement_of,
    entropy_of,
    features,
    greedy_k_center,
    looks,
    pair_probabilities,
)
from tests.conftest import random_segments
from tests.queries.members import Members

INFORMATIVE = {"disagreement": disagreement_of, "entropy": entropy_of, "bald": bald_of}


@pytest.fixture
def model() -> Members:
    return Members(np.random.default_rng(0).normal(size=(5, 17)))


def pool_of(size: int, length: int = 6, seed: int = 0) -> Segments:
    return random_segments(np.random.default_rng(seed), size, length)


def test_acquisition_by_hand() -> None:
    """Two members. Sure and opposed; sure and agreed; both at even odds."""
    p = np.array([[1.0, 1.0, 0.5], [0.0, 1.0, 0.5]])
    np.testing.assert_allclose(disagreement_of(p), [0.5, 0, 0])
    np.testing.assert_allclose(entropy_of(p), [math.log(2), 0, math.log(2)], atol=1e-9)
    np.testing.assert_allclose(bald_of(p), [math.log(2), 0, 0], atol=1e-9)
    np.testing.assert_allclose(bald_of(p.astype(np.float32)), [math.log(2), 0, 0], atol=1e-6)  # not NaN
    np.testing.assert_allclose(binary_entropy(np.array(0.25)), -0.25 * math.log(0.25) - 0.75 * math.log(0.75))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_information_is_bounded(p: list[float]) -> None:
    """0 <= mutual information <= entropy of the answer <= log 2."""
    bald, entropy = bald_of(np.array(p)), entropy_of(np.array(p))
    assert -1e-9 <= bald <= entropy + 1e-9 and entropy <= math.log(2) + 1e-9


def test_pair_probabilities_by_hand() -> None:
    pool = pool_of(4)
    model = Members(np.random.default_rng(0).normal(size=(2, 17)))
    logits = Members(model.weights).clip_logits(pool)
    p = pair_probabilities(pool, np.array([[2, 0], [1, 2]]), model)
    np.testing.assert_allclose(p[:, 0, 0], 1 / (1 + np.exp(logits[:, 0] - logits[:, 2])))
    np.testing.assert_allclose(p[:, 1, 0], 1 / (1 + np.exp(logits[:, 2] - logits[:, 1])))
    assert model.scored == 3  # each clip once, and clip 3 not at all
    assert pair_probabilities(pool, np.array([[0, 1, 2, 3]]), model).shape == (2, 1, 6)
    lone = pair_probabilities(pool, np.arange(4)[:, None], model)
    np.testing.assert_allclose(lone[:, 1, 0], 1 / (1 + np.exp(logits.mean(1) - logits[:, 1])))


def test_2000_pairs_are_scored_in_time(model: Members) -> None:
    """At most 100 ms for the scoring of 2,000 pairs of 540 clips besides the model's own time."""
    pool = pool_of(540, 30)
    groups = random_groups(np.arange(540), 2, 2000, np.random.default_rng(0))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        STRATEGIES["bald"](pool, groups, 10, model, np.random.default_rng(0))
        times.append(time.perf_counter() - started)
    assert min(times) < 0.1 and model.scored == 5 * 540


@pytest.mark.parametrize("name", INFORMATIVE)
def test_informative_strategies_order_by_their_measure(name: str, model: Members) -> None:
    pool = pool_of(100)
    groups = random_groups(np.arange(100), 2, 200, np.random.default_rng(0))
    order = STRATEGIES[name](pool, groups, 10, model, np.random.default_rng(0))
    value = INFORMATIVE[name](pair_probabilities(pool, groups, model))[:, 0]
    assert (np.diff(value[order]) <= 0).all() and sorted(order) == list(range(200))


def test_greedy_k_center_by_hand() -> None:
    """Points on a line with mean 5.3: first the farthest from there, 0, then 10, then 5 in their midst."""
    points = np.array([[0.0], [9.0], [4.0], [5.0], [10.0], [4.0]])
    singles = np.arange(6)[:, None]
    assert greedy_k_center(points, singles, 3).tolist() == [0, 4, 3]
    pairs = np.array([[0, 1], [4, 5], [0, 4], [2, 3]])
    assert greedy_k_center(points, pairs, 4).tolist() == [2, 3]  # (0, 10) is the widest; (4, 5) shares no clip with it


@pytest.mark.parametrize("name", ["k-center", "bald-k-center", "disagreement-k-center"])
def test_k_center_covers_the_pool_better_than_chance(name: str) -> None:
    pool = pool_of(300)
    cluster = replace(pool, obs=np.where(np.arange(300)[:, None, None] < 270, pool.obs * 0.01, pool.obs))
    config, blind = QueryConfig(random_share=0, min_difference=0), Members(np.zeros((2, 17)))
    rare = {
        strategy: np.mean([
            np.abs(q.segments.obs).mean() > 0.3
            for seed in range(5)
            for q in choose(strategy, Pool.of(cluster), 10, 0, blind, np.random.default_rng(seed), config=config)
        ])
        for strategy in (name, "uniform")
    }  # fmt: skip
    assert rare[name] > rare["uniform"] + 0.25


def test_a_hybrid_takes_from_the_most_informative(model: Members) -> None:
    pool = pool_of(200)
    groups = random_groups(np.arange(200), 2, 400, np.random.default_rng(0))
    best = STRATEGIES["bald"](pool, groups, 8, model, np.random.default_rng(0))[:40]
    order = STRATEGIES["bald-k-center"](pool, groups, 8, model, np.random.default_rng(0))
    assert set(order[:40]) == set(best) and list(order[:8]) != list(best[:8])
    assert sorted(order) == list(range(400))
    centers = greedy_k_center(features(pool), groups[best], 8)
    assert list(order[: len(centers)]) == list(best[centers])


def test_features_are_standardised_means() -> None:
    pool = pool_of(50)
    f = features(pool)
    assert f.shape == (50, 23)
    np.testing.assert_allclose(f.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(f.std(0), 1)
    np.testing.assert_allclose(np.corrcoef(f[:, 18], pool.action[..., 1].mean(1))[0, 1], 1)


def test_the_same_gait_half_a_stride_later_looks_the_same() -> None:
    t = np.arange(40)
    phase = np.array([0, np.pi, 0, 0])[:, None]
    amplitude, height = np.array([1, 1, 2, 1])[:, None], np.array([0, 0, 0, 2])[:, None]
    gait = height + amplitude * np.sin(2 * np.pi * t / 10 + phase)
    pool = pool_of(4, 40)
    pool = replace(pool, obs=np.repeat(gait[..., None], 17, -1).astype(np.float32))
    apart = difference(looks(pool), np.array([[0, 1], [0, 2], [0, 3]]))
    assert apart[0] < 0.05 and apart[1] > 0.3 and apart[2] > 1
    further = replace(pool, state=None if pool.state is None else pool.state + 100)  # how far it has come shows nowhere
    np.testing.assert_array_equal(looks(further), looks(pool))


def test_difference_is_that_of_the_most_similar_two() -> None:
    seen = np.array([[0.0, 0.0], [3.0, 3.0], [1.0, 1.0]])
    np.testing.assert_allclose(difference(seen, np.array([[0, 1, 2], [1, 2, 1]])), [1, 0])
    assert difference(seen, np.array([[0], [1]])).tolist() == [np.inf, np.inf]
