from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rlhf_control.config import RewardConfig
from rlhf_control.data import DEMONSTRATION, KINDS, Answers
from rlhf_control.reward.answers import annotators_in
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.trust import CANDIDATES, PRIOR_STD, most_likely_trust
from tests.conftest import random_segments
from tests.reward.given_answers import answers_of, planted

SMALL = RewardConfig(members=3, hidden=(32, 32), bootstrap=0.7)


def log_prob(right: list[float], margin: float = 2.0) -> np.ndarray:
    """(G, Q) of answers that are right (1) or wrong (-1) by a margin, were their annotator of each trust."""
    return -np.logaddexp(0, -CANDIDATES[:, None] * margin * np.array(right))


def crowd(n: int, honesty: list[float], seed: int = 0) -> Answers:
    """Comparisons by annotators who take turns, of whom some lie."""
    answers, rng = answers_of({"comparison": n}, seed=seed), np.random.default_rng(seed)
    who = np.arange(n) % len(honesty)
    lies = rng.random(n) < (1 - np.array(honesty)[who]) / 2
    ranks = np.where(lies[:, None], answers.ranks[:, [1, 0, 2, 3]], answers.ranks)
    return replace(answers, ranks=ranks, annotator=np.array([f"ann {i + 1}" for i in who]))


def rightness(model: RewardModel) -> float:
    """The correlation with the planted reward, on clips never seen."""
    fresh = random_segments(np.random.default_rng(7), 300, 30)
    return float(np.corrcoef(model.clip_logits(fresh).mean(0), planted(fresh).mean(-1))[0, 1])


def fitted(answers: Answers, config: RewardConfig = SMALL) -> tuple[RewardModel, dict[str, float]]:
    model = RewardModel(17, 6, config)
    reference = random_segments(np.random.default_rng(5), 60, 30)
    return model, model.fit(answers, reference, np.random.default_rng(0))


def test_the_likeliest_trust_by_hand() -> None:
    """One who is right 20 times, one who is wrong 200 times, one who is both, and one of whom little is known."""
    right = [1.0] * 20 + [-1.0] * 200 + [1.0, -1.0] * 20 + [-1.0]
    annotator = np.repeat([0, 1, 2, 3], [20, 200, 40, 1])
    trust, without = most_likely_trust(log_prob(right), annotator, np.arange(261))
    assert_array_equal(trust[:2], [1, -1])
    assert abs(trust[2]) <= 0.25
    one = -np.logaddexp(0, CANDIDATES * 2) - np.square((CANDIDATES - 1) / PRIOR_STD) / 2
    assert trust[3] == CANDIDATES[one.argmax()] > 0  # a single answer does not make a liar
    assert (without[:20] == 1).all() and (without[20:220] == -1).all()
    assert without[260] == 1  # without their only answer there is the prior


def test_no_answer_vouches_for_itself_or_for_another_to_its_question() -> None:
    many = log_prob([-1.0] * 4, margin=20.0)
    trust, without = most_likely_trust(many, np.zeros(4, int), np.array([0, 0, 0, 0]))
    assert trust[0] < 0 and (without == 1).all()  # all four are about one question
    trust, without = most_likely_trust(many, np.array([0, 0, -1, -1]), np.arange(4))
    assert len(trust) == 1 and (without[2:] == 1).all()


def test_who_can_be_doubted() -> None:
    answers = answers_of({"comparison": 3, "demonstration": 1})
    demonstration = KINDS.index(DEMONSTRATION)
    assert answers.kind.tolist() == [0, 0, 0, demonstration]
    assert annotators_in(answers)[1].tolist() == [-1] * 4  # nobody is named
    one = replace(answers, annotator=np.array(["ann", "ann", "ann", "demonstration"]))
    assert annotators_in(one)[0] == []
    two = replace(answers, annotator=np.array(["bob", "ann", "bob", "demonstration"]))
    names, numbers = annotators_in(two)
    assert names == ["ann", "bob"] and numbers.tolist() == [1, 0, 1, -1]


def test_a_liar_among_three_who_are_honest_is_found_and_teaches() -> None:
    lying = crowd(160, [1, 1, 1, -1])
    model, metrics = fitted(lying)
    assert model.trust["ann 4"] < -0.4 and min(model.trust[f"ann {i}"] for i in (1, 2, 3)) > 0.2
    assert metrics["lowest_trust"] == model.trust["ann 4"]
    blind, told = fitted(lying, replace(SMALL, trust=False))
    assert blind.trust == {} and "lowest_trust" not in told
    assert rightness(model) > rightness(blind) + 0.05
    assert metrics["heldout_accuracy"] > told["heldout_accuracy"] + 0.1 and metrics["evidence"] > told["evidence"] + 5
    honest = np.isin(np.arange(160) % 4, [0, 1, 2])
    of_three = replace(
        lying, items=lying.items[honest], ranks=lying.ranks[honest], kind=lying.kind[honest],
        value=lying.value[honest], annotator=lying.annotator[honest],
    )  # fmt: skip
    assert rightness(model) > rightness(fitted(of_three)[0]) - 0.1


def test_one_annotator_is_fitted_as_if_nobody_was_named() -> None:
    answers = answers_of({"comparison": 30})
    named = replace(answers, annotator=np.full(30, "ann"))
    models = [fitted(each)[0] for each in (answers, named)]
    for mine, other in zip(*(model.layers for model in models), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert_array_equal(a.numpy(), b.numpy())
    assert "trust" not in models[1].state()


def test_trust_is_kept_with_the_model() -> None:
    model, _ = fitted(crowd(40, [1, -1], seed=3))
    again = RewardModel(17, 6, SMALL)
    again.load_state(model.state())
    assert again.trust == model.trust and len(again.trust) == 2
    answers = crowd(4, [1, 1, 1])
    expected = [model.trust["ann 1"], model.trust["ann 2"], 1, model.trust["ann 1"]]
    assert_allclose(again.trust_in(answers), expected)  # who was never met is trusted
    assert_array_equal(again.trust_in(replace(answers, annotator=None)), 1)


@pytest.mark.parametrize("kind", ["rating", "ranking", "reward"])
def test_liars_are_found_in_other_kinds_too(kind: str) -> None:
    answers = answers_of({kind: 160})
    who = np.arange(160) % 4
    value = answers.value.copy()
    value[who == 3] = (6 if kind == "rating" else 2 * value.mean()) - value[who == 3]
    ranks = np.where((who == 3)[:, None] & (answers.ranks >= 0), 3 - answers.ranks, answers.ranks)
    ranks = ranks if kind == "ranking" else answers.ranks
    lying = replace(answers, ranks=ranks, value=value, annotator=np.array([f"ann {i + 1}" for i in who]))
    trust = fitted(lying)[0].trust
    assert trust["ann 4"] < 0 < min(trust[f"ann {i}"] for i in (1, 2, 3))
