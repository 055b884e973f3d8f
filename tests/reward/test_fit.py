from dataclasses import replace

import numpy as np
import pytest

from rlhf_control.config import RewardConfig
from rlhf_control.data import Answers
from rlhf_control.reward.answers import (
    Targets,
)
from rlhf_control.reward.fit import adapted_l2, assess
from rlhf_control.reward.model import RewardModel
from tests.conftest import random_segments
from tests.reward.given_answers import answers_of, planted, small

# -- parts


def test_answers_known_by_heart_are_no_evidence() -> None:
    """Coin flips about clips of noise, each given twice: none is predicted from its copy."""
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(80).reshape(40, 2), 2, axis=0)
    flips = np.repeat(rng.permuted(np.tile([0, 1], (40, 1)), axis=1), 2, axis=0)
    answers = small(items=items.tolist(), ranks=flips.tolist(), kind=["comparison"] * 80)
    model = RewardModel(17, 6, RewardConfig())
    metrics = model.fit(answers, random_segments(rng, 20, 8), rng)
    assert metrics["fair_answers"] == 40 and metrics["evidence"] < 3.0


def test_the_adaptive_l2_holds_the_ratio() -> None:
    assert adapted_l2(0.01, 1.0, 1.3) == 0.01
    assert adapted_l2(0.01, 1.0, 1.6) == pytest.approx(0.03)
    assert adapted_l2(0.03, 1.0, 1.0) == pytest.approx(0.01)
    assert adapted_l2(0.0, 1.0, 2.0) > 0 and adapted_l2(90.0, 1.0, 2.0) == 100


def test_accuracy_and_calibration_by_hand() -> None:
    """Two members, two comparisons; the first is held out by member 1, the second by member 0."""
    targets = Targets.of(small(items=[[0, 1], [2, 3]], ranks=[[0, 1], [0, 1]], kind=["comparison"] * 2))
    logits = np.array([[2.0, 0, -1, 0], [3.0, 0, 2, 0]])
    held_out = np.array([[False, True], [True, False]])
    temperature, metrics = assess(logits, targets, held_out, calibrate=False)
    s = 1 / (1 + np.exp(-np.array([3.0, -1.0])))  # the held-out probabilities: one right, one wrong
    assert temperature == 1 and metrics["train_accuracy"] == 1 and metrics["heldout_accuracy"] == 0.5
    assert metrics["heldout_ece"] == pytest.approx(np.mean([1 - s[0], 1 - s[1]]))  # each in a bin of its own
    assert assess(logits, targets, held_out, calibrate=True)[0] > 1  # half right: less sure


def test_only_answers_about_random_clips_are_fair_evidence() -> None:
    """Three held-out answers about clips that no model chose, all right, and three about chosen ones, all wrong."""
    items = [[2 * i, 2 * i + 1] for i in range(6)]
    answers = small(items=items, ranks=[[0, 1]] * 6, kind=["comparison"] * 6)
    logits = np.where(np.arange(12) % 2, 0.0, np.repeat([9.0, -9.0], 6))[None]
    held_out = np.ones((1, 6), bool)
    mixed = assess(logits, Targets.of(answers), held_out, calibrate=False)[1]
    assert (mixed["fair_accuracy"], mixed["fair_answers"], mixed["evidence"]) == (0.5, 6, 0)
    for at_random, number in (([True] * 3 + [False] * 3, 3), ([False] * 6, 6)):  # without any random ones, all count
        targets = Targets.of(replace(answers, at_random=np.array(at_random)))
        metrics = assess(logits, targets, held_out, calibrate=False)[1]
        assert metrics["heldout_accuracy"] == 0.5 and metrics["fair_answers"] == number
    targets = Targets.of(replace(answers, at_random=np.array([True] * 3 + [False] * 3)))
    metrics = assess(logits, targets, held_out, calibrate=False)[1]
    assert metrics["fair_accuracy"] == 1 and metrics["evidence"] == pytest.approx(3 * np.log(2 * 0.99), abs=1e-3)
    nothing = assess(logits, targets, ~held_out, calibrate=False)[1]
    assert (nothing["fair_accuracy"], nothing["fair_answers"], nothing["evidence"]) == (0.5, 0, 0)


# -- learning from every kind


KINDS_TO_LEARN = {
    "comparison": {"comparison": 80},
    "ranking": {"ranking": 40},
    "rating": {"rating": 120},
    "demonstration": {"demonstration": 60},
    "correction": {"correction": 80},
    "reward": {"reward": 100},
    "success": {"success": 160},
    "mixed": {
        "comparison": 20, "ranking": 10, "rating": 30, "demonstration": 10, "correction": 10, "reward": 20,
        "success": 20,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS_TO_LEARN)
def test_every_kind_teaches_the_planted_reward(name: str) -> None:
    model = RewardModel(17, 6, RewardConfig(members=3, hidden=(32, 32), bootstrap=0.7))
    metrics = model.fit(
        answers_of(KINDS_TO_LEARN[name]), random_segments(np.random.default_rng(5), 60, 30), np.random.default_rng(0)
    )
    fresh = random_segments(np.random.default_rng(7), 300, 30)
    found = np.corrcoef(model.clip_logits(fresh).mean(0), planted(fresh).mean(-1))[0, 1]
    # A mark speaks of an episode's end, and these are good or bad throughout, in steps that have nothing in common
    assert found > (0.5 if name == "success" else 0.6) and metrics["heldout_accuracy"] > 0.65


def test_ratings_and_rewards_that_say_nothing_teach_nothing() -> None:
    answers = answers_of({"rating": 60, "reward": 60})
    rng = np.random.default_rng(1)
    noise = Answers(answers.clips, answers.items, answers.ranks, answers.kind, rng.integers(1, 6, 120).astype(float))
    model = RewardModel(17, 6, RewardConfig(members=3, hidden=(32, 32), bootstrap=0.7))
    metrics = model.fit(noise, random_segments(np.random.default_rng(5), 60, 30), np.random.default_rng(0))
    assert 0.3 < metrics["heldout_accuracy"] < 0.7


def test_a_rating_scale_used_at_one_level_only_is_no_accident() -> None:
    answers = answers_of({"rating": 5})
    same = Answers(answers.clips, answers.items, answers.ranks, answers.kind, np.ones(5))
    model = RewardModel(17, 6, RewardConfig(members=2, steps=20, bootstrap=0.5))
    model.fit(same, answers.clips, np.random.default_rng(0))
    assert np.isfinite(model.predict(answers.clips)).all()


def test_units_of_given_rewards_do_not_matter() -> None:
    answers = answers_of({"reward": 30})
    scores = []
    for value in (answers.value, answers.value / 1000 - 5):
        model = RewardModel(17, 6, RewardConfig(members=2, steps=50, bootstrap=0.5))
        model.fit(
            Answers(answers.clips, answers.items, answers.ranks, answers.kind, value),
            answers.clips,
            np.random.default_rng(0),
        )
        scores.append(model.predict(answers.clips))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-2)


def test_the_adaptive_l2_closes_the_gap() -> None:
    """Few noisy answers: without it the ensemble knows them by heart."""
    answers = answers_of({"comparison": 60}, length=8)
    wrong = np.random.default_rng(1).random(60) < 0.3
    flipped = Answers(
        answers.clips,
        answers.items,
        np.where(wrong[:, None], answers.ranks[:, [1, 0, 2, 3]], answers.ranks),
        answers.kind,
        answers.value,
    )
    ratios = []
    for adaptive in (False, True):
        model = RewardModel(17, 6, RewardConfig(members=3, bootstrap=0.7, steps=300, adaptive_l2=adaptive))
        for _ in range(2):
            metrics = model.fit(flipped, answers.clips, np.random.default_rng(0))
        ratios.append(metrics["heldout_loss"] / metrics["train_loss"])
    assert ratios[1] < ratios[0] / 2 and ratios[1] < 2.5
    assert model.weight_decay > 0.1
