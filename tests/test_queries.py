import numpy as np
import pytest
from conftest import random_segments

from rlhf_control.config import RewardConfig
from rlhf_control.errors import UserError
from rlhf_control.queries import choose, disagreement, uniform
from rlhf_control.reward import RewardModel


@pytest.fixture(scope="module")
def model() -> RewardModel:
    model = RewardModel(17, 6, RewardConfig(steps=50))
    pairs = random_segments(np.random.default_rng(0), 20, 2, 6)
    target = np.random.default_rng(0).integers(2, size=20).astype(np.float32)
    model.fit(pairs, target, random_segments(np.random.default_rng(1), 20, 6), np.random.default_rng(0))
    return model


def test_uniform_uses_no_clip_twice_and_every_clip(model: RewardModel) -> None:
    pool = random_segments(np.random.default_rng(0), 12, 6)
    pairs = uniform(pool, 6, model, np.random.default_rng(0))
    assert sorted(pairs.ravel()) == list(range(12))


def test_disagreement_takes_the_pairs_the_members_dispute(model: RewardModel) -> None:
    pool = random_segments(np.random.default_rng(0), 400, 6)
    rng = np.random.default_rng(0)
    chosen = model.probability(pool[disagreement(pool, 10, model, rng)]).std(0)
    random = model.probability(pool[uniform(pool, 200, model, rng)]).std(0)
    assert chosen.min() > np.quantile(random, 0.75)


@pytest.mark.parametrize("strategy", ["uniform", "disagreement"])
@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_choose_gives_n_distinct_queries_some_of_them_random(model: RewardModel, strategy: str, n: int) -> None:
    pool = random_segments(np.random.default_rng(0), 100, 6)
    queries = choose(strategy, pool, n, 3, model, np.random.default_rng(0))
    clips = [q.segments[i].digest() for q in queries for i in range(2)]
    assert len(queries) == n and len(set(clips)) == 2 * n
    assert [(q.round, q.index) for q in queries] == [(3, i) for i in range(n)]
    if strategy == "disagreement" and n > 1:
        assert sum(q.strategy == "uniform" for q in queries) == pytest.approx(0.4 * n, abs=0.5)


def test_the_first_round_is_uniform() -> None:
    pool = random_segments(np.random.default_rng(0), 40, 6)
    queries = choose("disagreement", pool, 8, 0, RewardModel(17, 6, RewardConfig()), np.random.default_rng(0))
    assert {q.strategy for q in queries} == {"uniform"}


def test_sides_are_random(model: RewardModel) -> None:
    pool = random_segments(np.random.default_rng(0), 40, 6)
    first = [choose("disagreement", pool, 2, 0, model, np.random.default_rng(i))[0] for i in range(200)]
    score = [model.predict(q.segments).mean(1) for q in first]
    assert 0.4 < np.mean([s[0] > s[1] for s in score]) < 0.6


def test_bad_requests(model: RewardModel) -> None:
    pool = random_segments(np.random.default_rng(0), 10, 6)
    with pytest.raises(UserError, match="did you mean disagreement"):
        choose("disagrement", pool, 2, 0, model, np.random.default_rng(0))
    with pytest.raises(UserError, match="6 queries need 12 clips"):
        choose("uniform", pool, 6, 0, model, np.random.default_rng(0))
