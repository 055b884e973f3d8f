import math

import numpy as np
import pytest

from rlhf_control.reward.calibration import (
    LAPSES,
    TEMPERATURES,
    best_temperature,
    both_ways,
    evidence,
    expected_calibration_error,
    log_odds,
    log_wealth,
    reliability_table,
    surprise,
)


def test_calibration_by_hand() -> None:
    p, outcome = np.array([0.05, 0.62, 0.66, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    table = reliability_table(p, outcome)
    np.testing.assert_allclose(table.low, [0.0, 0.6, 0.9])
    np.testing.assert_allclose(table.high, [0.1, 0.7, 1.0])
    np.testing.assert_array_equal(table.count, [1, 2, 1])
    np.testing.assert_allclose(table.probability, [0.05, 0.64, 1.0])
    np.testing.assert_allclose(table.frequency, [0.0, 0.5, 1.0])
    assert expected_calibration_error(p, outcome) == pytest.approx((0.05 + 2 * 0.14 + 0) / 4)
    assert math.isnan(expected_calibration_error(np.zeros(0), np.zeros(0)))
    p, outcome = both_ways(np.array([0.8, 0.3]))
    np.testing.assert_allclose(p, [0.8, 0.3, 0.2, 0.7])
    np.testing.assert_array_equal(outcome, [1, 1, 0, 0])


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=20_000)
    p = 1 / (1 + np.exp(-logits))
    outcome = rng.random(20_000) < p
    assert expected_calibration_error(p, outcome) < 0.02
    assert expected_calibration_error(1 / (1 + np.exp(-3 * logits)), outcome) > 0.08


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_finds_the_factor(factor: float) -> None:
    """Logits that are `factor` times too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(1, 20_000))
    stated = np.where(rng.random(logits.shape) < 1 / (1 + np.exp(-logits)), logits, -logits)
    found = best_temperature(factor * stated, np.ones(logits.shape, bool))
    assert found == pytest.approx(factor, rel=0.1) and found in TEMPERATURES
    assert best_temperature(stated, np.zeros(logits.shape, bool)) == 1


def test_evidence_by_hand() -> None:
    assert evidence(np.full(4, 0.75), 4) == pytest.approx(4 * math.log(2 * (0.01 + 0.98 * 0.75)))  # hardly any lapses
    assert evidence(np.full(4, 0.75), 2) == pytest.approx(2 * math.log(2 * (0.01 + 0.98 * 0.75)))
    assert evidence(np.full(4, 0.25), 4) == 0  # at best, coin flips
    assert evidence(np.array([1.0, 0.0]), 2) == 0 == evidence(np.zeros(0), 0)
    # Sure of all and right about three quarters: mixed half and half with coin flips
    found = evidence(np.array([1.0, 1.0, 1.0, 0.0]), 4)
    assert found == pytest.approx(3 * math.log(1.5) + math.log(0.5))
    assert found == pytest.approx(4 * (math.log(2) - 0.75 * math.log(4 / 3) - 0.25 * math.log(4)))


def test_surprise_by_hand() -> None:
    """Fisher's tea: all four right of four, none of four."""
    assert surprise(0, 4, 4, 4) == pytest.approx(1 / 70)
    assert surprise(4, 4, 4, 4) == 1
    assert surprise(0, 4, 18, 20) == pytest.approx(math.comb(20, 18) / math.comb(24, 18))
    assert surprise(1, 2, 0, 3) == 1  # better than before
    assert surprise(0, 0, 3, 4) == 1


def test_surprise_is_seldom_when_nothing_has_changed() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.binomial(30, 0.8, 2000), rng.binomial(8, 0.8, 2000)
    found = np.array([surprise(k, 8, b, 30) for k, b in zip(now, before, strict=True)])
    for level in (0.01, 0.05, 0.2):
        assert (found < level).mean() <= level


def test_wealth_by_hand() -> None:
    """Of two answers of probability 1 each wins 2 - e, but for the share e of coin flips; one of 0 leaves e."""
    bets = log_odds(np.array([1.0, 1.0]), 2.0) + log_odds(np.array([0.0]), 1.0)
    np.testing.assert_allclose(np.exp(bets), (2 - LAPSES) ** 2 * LAPSES)
    assert log_wealth(bets) == pytest.approx(np.log(np.mean((2 - LAPSES) ** 2 * LAPSES)))
    assert log_wealth(log_odds(np.zeros(0), 0.0)) == pytest.approx(0) and evidence(np.zeros(0), 0.0) == 0


def test_coin_flips_seldom_win_however_often_one_looks() -> None:
    """Whoever bets the more boldly the more the last answers were alike, looks 100 times, and stops at the best."""
    rng = np.random.default_rng(0)
    runs, most = 1000, np.zeros(1000)
    bets, last = np.zeros((runs, len(LAPSES))), np.zeros(runs)
    for _ in range(100):
        p_first = 1 / (1 + np.exp(-last))
        first = rng.random(runs) < 0.5
        p = np.where(first, p_first, 1 - p_first)
        bets += np.log(2 * (LAPSES / 2 + (1 - LAPSES) * p[:, None]))
        most = np.maximum(most, [log_wealth(row) for row in bets])
        last = 0.8 * last + np.where(first, 1, -1)
    assert 0 < (most >= np.log(20)).mean() <= 0.05
