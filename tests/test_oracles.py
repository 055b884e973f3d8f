import math

import numpy as np
import pytest
from conftest import random_segments

from rlhf_control.data import Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.oracles import RewardOracle, coin_flip, env_reward, make_oracle


def query_of(env_rewards: list[list[float]]) -> tuple[Query, Segments]:
    s = random_segments(np.random.default_rng(0), len(env_rewards), len(env_rewards[0]))
    clips = Segments(s.obs, s.action, s.next_obs, np.array(env_rewards, np.float32))
    return Query(0, 0, "uniform", clips), clips


def ranks(env_rewards: list[list[float]]) -> tuple[int, ...] | None:
    query, pool = query_of(env_rewards)
    return RewardOracle(env_reward, "env")(query, pool, np.random.default_rng(0)).ranks


def test_the_exact_oracle_ranks_by_the_sum() -> None:
    assert ranks([[1, 1], [3, -2]]) == (0, 1)
    assert ranks([[0, 1], [3, -1]]) == (1, 0)
    assert ranks([[1, 1], [2, 0]]) == (0, 0)
    assert ranks([[0, 0], [5, 0], [1, 1], [5, 0]]) == (2, 0, 1, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_boltzmann_rates_follow_the_formula_whatever_the_rewards_scale(temperature: float, scale: float) -> None:
    query, _ = query_of([[scale], [0.0]])
    pool = query_of([[scale * x] for x in np.random.default_rng(0).normal(size=50)])[1]
    sd = pool.env_reward.sum(-1).std()
    oracle = RewardOracle(env_reward, "env", temperature)
    rng = np.random.default_rng(1)
    rate = np.mean([oracle(query, pool, rng).ranks == (0, 1) for _ in range(3000)])
    expected = 1 / (1 + math.exp(-scale / (temperature * sd)))
    assert rate == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / 3000))


def test_coin_flips_are_fair_and_blind() -> None:
    query, pool = query_of([[100.0], [0.0]])
    rng = np.random.default_rng(0)
    assert 0.45 < np.mean([coin_flip(query, pool, rng).ranks == (0, 1) for _ in range(2000)]) < 0.55


def test_oracles_by_name() -> None:
    assert make_oracle("coin-flip", "HalfCheetah-v5", 0.0) is coin_flip
    s = random_segments(np.random.default_rng(0), 2, 5)
    better = int(np.argmin(s.next_obs[..., 8].sum(-1) + 0.1 * np.square(s.action).sum((-1, -2))))
    answer = make_oracle("backward", "HalfCheetah-v5", 0.0)(Query(0, 0, "uniform", s), s, np.random.default_rng(0))
    assert answer.ranks is not None and answer.ranks.index(0) == better and answer.annotator == "oracle:backward"
    with pytest.raises(UserError, match="did you mean backward"):
        make_oracle("bckward", "HalfCheetah-v5", 0.0)
    with pytest.raises(UserError, match="is for HalfCheetah-v5"):
        make_oracle("backward", "Hopper-v5", 0.0)


def test_a_behaviours_oracle_never_reads_the_environments_reward() -> None:
    s = random_segments(np.random.default_rng(0), 2, 5)
    blind = Segments(s.obs, s.action, s.next_obs, np.full_like(s.env_reward, np.nan), s.state)
    oracle = make_oracle("backward", "HalfCheetah-v5", 1.0)
    answers = [oracle(Query(0, 0, "uniform", x), x, np.random.default_rng(0)) for x in (s, blind)]
    assert answers[0] == answers[1]
