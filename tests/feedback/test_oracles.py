import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.behaviours.catalogue import env_reward
from rlhf_control.config import AnnotatorConfig
from rlhf_control.data import (
    COMPARISON,
    CORRECTION,
    DEMONSTRATION,
    GROUPS,
    KINDS,
    RANKED,
    RANKING,
    RATING,
    REWARD,
    SUCCESS,
    Array,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.errors import UserError
from rlhf_control.feedback.mistakes import mistake_rate
from rlhf_control.feedback.oracles import RewardOracle, coin_flip, make_oracle, ranks_with_ties
from tests.conftest import random_segments

N = 2000  # questions asked to measure a rate


def clips_of(env_rewards: list[list[float]] | Array) -> Segments:
    rewards = np.array(env_rewards, np.float32)
    nothing = np.zeros((*rewards.shape, 1), np.float32)
    return Segments(nothing, nothing, nothing, rewards)


def query_of(env_rewards: list[list[float]] | Array, kind: str = COMPARISON, index: int = 0, round: int = 0) -> Query:
    return Query(round, index, "uniform", clips_of(env_rewards), kind)


POOL = clips_of(np.random.default_rng(0).normal(size=(200, 1)))
SD = float(POOL.env_reward.sum(-1).std())


def answers(query: Query, oracle: RewardOracle, pool: Segments = POOL, n: int = N) -> list[Feedback]:
    rng = np.random.default_rng(1)
    return [oracle(query, pool, rng) for _ in range(n)]


def env_oracle(temperature: float = 0.0, **config: Any) -> RewardOracle:
    return RewardOracle(env_reward, "env", temperature, AnnotatorConfig(**config))


def check_rate(happened: list[bool], expected: float) -> None:
    """Within 3.5 binomial standard deviations: a right oracle fails one such check in two thousand."""
    sd = math.sqrt(expected * (1 - expected) / len(happened))
    assert np.mean(happened) == pytest.approx(expected, abs=3.5 * sd + 1e-12)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# -- B-Pref's six


def ranks(env_rewards: list[list[float]], kind: str = RANKING) -> tuple[int, ...] | None:
    return env_oracle()(query_of(env_rewards, kind), POOL, np.random.default_rng(0)).ranks


def test_the_perfect_oracle_ranks_by_the_sum() -> None:
    assert ranks([[1, 1], [3, -2]], COMPARISON) == (0, 1)
    assert ranks([[0, 1], [3, -1]], CORRECTION) == (1, 0)
    assert ranks([[1, 1], [2, 0]]) == (0, 0)
    assert ranks([[0, 0], [5, 0], [1, 1], [5, 0]]) == (2, 0, 1, 0)


def test_of_groups_the_mean_counts() -> None:
    assert ranks([[5, 0], [0, 0], [1, 1], [1, 1]], GROUPS) == (0, 0, 1, 1)  # 2.5 and 2
    assert ranks([[1, 0], [0, 1], [9, -9], [1, 1]], GROUPS) == (0, 0, 0, 0)
    mistaken = env_oracle(mistake=0.3)
    question = query_of([[0, 0], [0, 0], [1, 0], [3, 0]], GROUPS)
    given = [feedback.ranks for feedback in answers(question, mistaken)]
    assert set(given) == {(1, 1, 0, 0), (0, 0, 1, 1)}
    check_rate([r == (0, 0, 1, 1) for r in given], 0.3)
    noisy = answers(question, env_oracle(1.0))
    check_rate([f.ranks == (1, 1, 0, 0) for f in noisy], sigmoid(2 / SD))
    rng = np.random.default_rng(0)
    check_rate([coin_flip(question, POOL, rng).ranks == (0, 0, 1, 1) for _ in range(N)], 0.5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_boltzmann_rates_follow_the_formula_whatever_the_rewards_scale(temperature: float, scale: float) -> None:
    pool = clips_of(scale * POOL.env_reward)
    given = answers(query_of([[scale], [0.0]]), env_oracle(temperature), pool)
    check_rate([a.ranks == (0, 1) for a in given], sigmoid(1 / (temperature * SD)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_mistakes_turn_the_answer_round(temperature: float) -> None:
    right = sigmoid(1 / (temperature * SD)) if temperature else 1.0
    given = answers(query_of([[1.0], [0.0]]), env_oracle(temperature, mistake=0.2))
    check_rate([a.ranks == (0, 1) for a in given], 0.8 * right + 0.2 * (1 - right))


def test_a_crowd_answers_by_turns_each_as_honest_as_said() -> None:
    oracle, query = env_oracle(crowd=(1.0, -1.0, 0.0)), query_of([[1.0], [0.0]])
    given: dict[str, list[bool]] = {}
    rng = np.random.default_rng(0)
    for i in range(3 * N):
        answer = oracle(replace(query, index=i), POOL, rng)
        given.setdefault(answer.annotator, []).append(answer.ranks == (0, 1))
    assert list(given) == ["oracle:env 1", "oracle:env 2", "oracle:env 3"]
    assert all(given["oracle:env 1"]) and not any(given["oracle:env 2"])
    check_rate(given["oracle:env 3"], 0.5)
    with pytest.raises(UserError, match="each is from -1 to 1"):
        AnnotatorConfig(crowd=(1.0, 2.0))


def test_ties_stay_ties_under_mistakes() -> None:
    assert {a.ranks for a in answers(query_of([[1.0], [1.0]]), env_oracle(mistake=0.5), n=50)} == {(0, 0)}


@pytest.mark.parametrize("skip", [0.1, 0.3, 0.5])
def test_skips_what_is_all_below_a_quantile_of_the_pool(skip: float) -> None:
    """Random pairs of the pool are skipped with the chance that both are below: skip^2 (drawn with replacement)."""
    rng = np.random.default_rng(2)
    oracle = env_oracle(skip=skip)
    given = [oracle(Query(0, 0, "", POOL[rng.integers(len(POOL), size=2)]), POOL, rng) for _ in range(N)]
    skipped = [a.ranks is None for a in given]
    assert all(a.value is None for a in given)
    check_rate(skipped, skip**2)
    for kind in (RATING, REWARD):
        one = [oracle(Query(0, 0, "", POOL[i : i + 1], kind), POOL, rng).value is None for i in range(len(POOL))]
        assert np.mean(one) == pytest.approx(skip, abs=0.5 / len(POOL))


def test_nothing_is_skipped_unless_asked_for() -> None:
    assert ranks([[-1e6], [-2e6]], COMPARISON) == (0, 1)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equal_ties_what_is_near_relative_to_the_pool(scale: float, temperature: float) -> None:
    pool, oracle = clips_of(scale * POOL.env_reward), env_oracle(temperature, equal=0.5)
    near, far = (query_of([[scale * SD * d], [0.0]]) for d in (0.49, 0.51))
    assert {a.ranks for a in answers(near, oracle, pool, 100)} == {(0, 0)}
    assert (0, 0) not in {a.ranks for a in answers(far, oracle, pool, 100)}


def test_the_rate_of_ties_over_a_normal_pool() -> None:
    """Of normal returns, |A - B| < e sd with the probability erf(e / 2)."""
    returns = np.random.default_rng(3).normal(size=(2 * N, 1))
    pool, oracle, rng = clips_of(returns), env_oracle(equal=0.4), np.random.default_rng(0)
    tied = [oracle(query_of(returns[2 * i : 2 * i + 2]), pool, rng).ranks == (0, 0) for i in range(N)]
    check_rate(tied, math.erf(0.2))


def test_the_myopic_oracle_counts_the_end_more() -> None:
    """With discount 1/2, (4, 0, 0) is worth 1, (0, 1, 0.75) is worth 1.25 and (0, 0, 1) is worth 1."""
    query = query_of([[4, 0, 0], [0, 1, 0.75], [0, 0, 1]], RANKING)
    pool = clips_of([[0, 0, 0], [1, 1, 1]])
    assert env_oracle(discount=0.5)(query, pool, np.random.default_rng(0)).ranks == (1, 0, 1)
    assert env_oracle()(query, pool, np.random.default_rng(0)).ranks == (0, 1, 2)


# -- and the others


@pytest.mark.parametrize("kind", [COMPARISON, RANKING])
def test_position_bias(kind: str) -> None:
    given = answers(query_of([[0.0], [1.0]], kind), env_oracle(1.0, position_bias=0.3))
    check_rate([a.ranks == (0, 1) for a in given], 0.3 + 0.7 * sigmoid(-1 / SD))


def test_fatigue_grows_within_a_round_up_to_coin_flips() -> None:
    config = AnnotatorConfig(mistake=0.1, fatigue=0.02)
    for index in (0, 5, 40):
        query = query_of([[1.0], [0.0]], index=index)
        given = answers(query, RewardOracle(env_reward, "env", 0.0, config))
        check_rate([a.ranks == (1, 0) for a in given], mistake_rate(config, index))


@pytest.mark.parametrize("round", [0, 1, 4])
def test_temperature_drift_grows_by_round(round: int) -> None:
    given = answers(query_of([[1.0], [0.0]], round=round), env_oracle(0.5, temperature_drift=0.5))
    check_rate([a.ranks == (0, 1) for a in given], sigmoid(1 / ((0.5 + 0.5 * round) * SD)))


def test_preference_drift_goes_from_one_reward_to_the_other() -> None:
    """The second reward is the first one, negated and a thousand times as large: what one likes, the other hates.
    Relative to the pool both count the same, so that the turn is at a share of one half."""
    oracle = RewardOracle(env_reward, "env", config=AnnotatorConfig(drift=0.2), later=lambda s: -1000 * s.env_reward)
    by_round = [oracle(query_of([[1.0], [0.0]], round=k), POOL, np.random.default_rng(0)).ranks for k in range(8)]
    assert by_round == [(0, 1)] * 3 + [(1, 0)] * 5


# -- every kind


def test_rankings_are_plackett_luce_samples() -> None:
    """P(a > b > c) = e^a / (e^a + e^b + e^c) * e^b / (e^b + e^c), returns in units of temperature * sd."""
    values = np.array([1.0, 0.0, -0.5])
    given = answers(query_of(values[:, None], RANKING), env_oracle(0.8), n=2 * N)
    e = np.exp(values / (0.8 * SD))
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        a, b, c = e[order]
        expected = a / (a + b + c) * b / (b + c)
        check_rate([a.ranks == tuple(np.argsort(order)) for a in given], expected)


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=5), st.integers(0, 3), st.randoms(use_true_random=False))
def test_ranks_with_ties(returns: list[int], threshold: int, shuffle: object) -> None:
    values = np.array(returns, float)
    perceived = values + 0.01 * np.random.default_rng(0).permutation(len(values))
    r = ranks_with_ties(perceived, values, threshold)
    assert set(r) == set(range(r.max() + 1))
    for i in range(len(r)):
        for j in range(len(r)):
            assert r[i] <= r[j] or perceived[i] < perceived[j]  # nobody is ranked against what is perceived
            assert r[i] != r[j] or abs(values[i] - values[j]) < max(2 * threshold, 1e-9) or i == j


def test_a_tie_is_with_the_best_of_its_rank() -> None:
    """0.9 ties with 1.5 but 0.2 does not, although it is near 0.9: ties do not chain."""
    values = np.array([0.2, 1.5, 0.9])
    assert ranks_with_ties(values, values, 1.0).tolist() == [1, 0, 0]


def test_perfect_ratings_cut_the_pool_into_equal_parts() -> None:
    for levels in (2, 5):
        oracle = env_oracle(levels=levels)
        queries = [Query(0, 0, "", POOL[i : i + 1], RATING) for i in range(len(POOL))]
        ratings = np.array([oracle(q, POOL, np.random.default_rng(0)).value for q in queries], float)
        assert np.unique(ratings, return_counts=True)[1].tolist() == [200 // levels] * levels
        best = int(POOL.env_reward.argmax())
        assert ratings[best] == levels and ratings.min() == 1


def test_noisy_ratings_are_a_cumulative_link_model() -> None:
    cuts = np.quantile(POOL.env_reward.sum(-1), [0.25, 0.5, 0.75])
    given = answers(query_of([[0.3]], RATING), env_oracle(0.5, levels=4))
    for k, cut in enumerate(cuts, start=1):
        check_rate([a.value > k for a in given if a.value], sigmoid((0.3 - cut) / (0.5 * SD)))
    wrong = answers(query_of([[100.0]], RATING), env_oracle(mistake=0.25, levels=4))
    check_rate([a.value == 1 for a in wrong], 0.25)


def test_scalar_rewards_are_means_with_noise_relative_to_the_pool() -> None:
    pool = clips_of(np.repeat(POOL.env_reward, 4, axis=1))  # clips of 4 steps with the same means
    query = query_of([[1.0, 2.0, 3.0, 6.0]], REWARD)
    assert env_oracle()(query, pool, np.random.default_rng(0)).value == pytest.approx(3)
    values = np.array([a.value for a in answers(query, env_oracle(0.5), pool)], float)
    assert np.mean(values) == pytest.approx(3, abs=3.5 * 0.5 * SD / math.sqrt(N))
    assert np.std(values) == pytest.approx(0.5 * SD, rel=0.06)
    turned = env_oracle(mistake=1.0)(query, pool, np.random.default_rng(0)).value
    assert turned == pytest.approx(2 * POOL.env_reward.mean() - 3, abs=1e-6)


def test_demonstrations_are_not_judged() -> None:
    query = query_of([[-100.0], [1.0], [2.0]], DEMONSTRATION)
    assert {a.ranks for a in answers(query, env_oracle(2.0, mistake=0.5, skip=1.0), n=50)} == {(0, 1, 1)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("oracle", [env_oracle(1.0, mistake=0.1, skip=0.2, equal=0.1, position_bias=0.1), coin_flip])
def test_every_oracle_answers_every_kind(kind: str, oracle: RewardOracle) -> None:
    rng = np.random.default_rng(0)
    for size in (1,) if kind in (RATING, REWARD) else (2,) if kind in (COMPARISON, CORRECTION) else (2, 4):
        for _ in range(50):
            a = oracle(Query(0, 0, "", POOL[rng.integers(len(POOL), size=size)], kind), POOL, rng)
            assert a.ranks is None or (kind in RANKED and len(a.ranks) == size and min(a.ranks) == 0)
            assert a.value is None or (kind not in RANKED and math.isfinite(a.value))
            assert kind != RATING or a.value is None or a.value in range(1, 6)


# -- what an answer may depend on


def test_answers_depend_on_nothing_asked_before() -> None:
    oracle = env_oracle(1.0, mistake=0.1, fatigue=0.01, temperature_drift=0.1, equal=0.1)
    other_pool = clips_of(20 * POOL.env_reward[:50])
    queries = [(query_of([[1.0], [0.5]], index=i, round=i % 3), POOL if i % 2 else other_pool) for i in range(20)]

    def ask(order: list[int]) -> dict[int, Feedback]:
        return {i: oracle(*queries[i], np.random.default_rng(i)) for i in order}

    forward = ask(list(range(20)))
    assert ask(list(range(19, -1, -1))) == forward
    again = replace(oracle, memo=[])
    assert again(*queries[7], np.random.default_rng(7)) == forward[7]


def test_the_pool_is_scored_once_a_round() -> None:
    scored: list[int] = []

    def reward(clips: Segments) -> Array:
        scored.append(len(clips))
        return clips.env_reward

    oracle = RewardOracle(reward, "slow", temperature=1.0)
    for _ in range(5):
        oracle(query_of([[1.0], [0.0]]), POOL, np.random.default_rng(0))
    assert scored.count(len(POOL)) == 1


def test_coin_flips_are_fair_and_blind() -> None:
    query = query_of([[100.0], [0.0]])
    rng = np.random.default_rng(0)
    check_rate([coin_flip(query, POOL, rng).ranks == (0, 1) for _ in range(N)], 0.5)
    rating = query_of([[100.0]], RATING)
    check_rate([coin_flip(rating, POOL, rng, levels=4).value == 1 for _ in range(N)], 0.25)


def test_oracles_by_name() -> None:
    s = random_segments(np.random.default_rng(0), 2, 5)
    better = int(np.argmin(s.next_obs[..., 8].sum(-1) + 0.1 * np.square(s.action).sum((-1, -2))))
    answer = make_oracle("backward", "HalfCheetah-v5", 0.0)(Query(0, 0, "uniform", s), s, np.random.default_rng(0))
    assert answer.ranks is not None and answer.ranks.index(0) == better and answer.annotator == "oracle:backward"
    flips = make_oracle("coin-flip", "HalfCheetah-v5", 0.0, AnnotatorConfig(levels=2))
    ratings = {flips(query_of([[0.0]], RATING), POOL, np.random.default_rng(i)).value for i in range(20)}
    assert ratings == {1, 2}
    with pytest.raises(UserError, match="did you mean backward"):
        make_oracle("bckward", "HalfCheetah-v5", 0.0)
    with pytest.raises(UserError, match="is for HalfCheetah-v5"):
        make_oracle("backward", "Hopper-v5", 0.0)
    with pytest.raises(UserError, match="did you mean prowl"):
        make_oracle("env", "HalfCheetah-v5", 0.0, AnnotatorConfig(drift=0.1, drift_to="prowll"))


def test_a_drifting_oracle_by_name() -> None:
    oracle = make_oracle("backward", "HalfCheetah-v5", 0.0, AnnotatorConfig(drift=1.0, drift_to="env"))
    s = random_segments(np.random.default_rng(0), 2, 5)
    late = oracle(Query(1, 0, "", s), s, np.random.default_rng(0)).ranks
    assert late is not None and late.index(0) == int(s.env_reward.sum(-1).argmax())


def test_a_behaviours_oracle_never_reads_the_environments_reward() -> None:
    s = random_segments(np.random.default_rng(0), 2, 5)
    blind = replace(s, env_reward=np.full_like(s.env_reward, np.nan))
    oracle = make_oracle("backward", "HalfCheetah-v5", 1.0)
    given = [oracle(Query(0, 0, "uniform", x), x, np.random.default_rng(0)) for x in (s, blind)]
    assert given[0] == given[1]
    with pytest.raises(UserError, match="'env' finds rewards that are not finite"):
        env_oracle()(Query(0, 0, "", blind), blind, np.random.default_rng(0))


def test_impossible_annotators_are_refused() -> None:
    with pytest.raises(UserError, match=r"annotator\.mistake is 1\.5"):
        AnnotatorConfig(mistake=1.5)
    with pytest.raises(UserError, match=r"annotator\.levels"):
        AnnotatorConfig(levels=1)


# -- success marks


def marked(oracle: RewardOracle, episode: Segments) -> float | None:
    query = Query(0, 0, "uniform", Segments(**{k: v[None] for k, v in episode.arrays().items()}), SUCCESS)
    return oracle(query, POOL, np.random.default_rng(0)).value


def test_a_success_is_above_the_median_of_the_pool_whatever_the_episode_lasts() -> None:
    median = float(np.median(POOL.env_reward))
    for length in (1, 7, 40):
        for step, mark in ((median + 0.01, 1.0), (median - 0.01, 0.0)):
            assert marked(env_oracle(), clips_of([[step] * length])[0]) == mark
    assert marked(env_oracle(mistake=1.0), clips_of([[9.0]])[0]) == 0.0
    assert marked(env_oracle(skip=0.9), clips_of([[median] * 5])[0]) is None


def test_a_success_is_what_the_environment_says_at_any_step_or_a_score() -> None:
    rewards = clips_of([[0.0, 0.0, 3.0]])[0]
    told = [replace(rewards, success=np.array(flags)) for flags in ([False, True, False], [False, False, False])]
    for name, expected in (("env", [1.0, 0.0]), ("hurry", [1.0, 1.0])):  # a behaviour's success is another matter
        oracle = RewardOracle(env_reward, name, told=name == "env")
        assert [marked(oracle, episode) for episode in told] == expected
    for least, mark in ((0.9, 1.0), (1.1, 0.0)):
        oracle = make_oracle("env", "Pendulum-v1", 0.0, AnnotatorConfig(success=least))
        assert isinstance(oracle, RewardOracle) and [marked(oracle, episode) for episode in told] == [mark] * 2
    marks = [coin_flip(query_of([[1.0]], SUCCESS), POOL, np.random.default_rng(i)).value for i in range(40)]
    assert set(marks) == {0.0, 1.0}
