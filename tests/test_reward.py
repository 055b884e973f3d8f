import json
import math

import numpy as np
import pytest
import torch
from conftest import random_rollout, random_segments

from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.files import load_state, save_state
from rlhf_control.reward import KnownReward, RewardModel, held_out_mask, preference_loss, preference_probability


def planted(s: Segments) -> np.ndarray:
    """A reward the model can see: (..., L)."""
    return s.obs[..., 8] - 0.5 * np.square(s.action).sum(-1)


def answered(n: int, seed: int, length: int = 30) -> tuple[Segments, np.ndarray]:
    pairs = random_segments(np.random.default_rng(seed), n, 2, length)
    means = planted(pairs).mean(-1)
    return pairs, (means[:, 0] > means[:, 1]).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> tuple[RewardModel, dict[str, float], Segments]:
    model = RewardModel(17, 6, RewardConfig())
    reference = random_segments(np.random.default_rng(5), 60, 30)
    torch.set_num_threads(1)
    metrics = model.fit(*answered(100, 0), reference, np.random.default_rng(0))
    return model, metrics, reference


def test_likelihood_by_hand() -> None:
    zero, large = torch.tensor(0.0), torch.tensor(100.0)
    assert preference_probability(zero, 30, 0.1).item() == 0.5
    assert preference_probability(large, 30, 0.1).item() == pytest.approx(0.95)  # never surer than that
    assert preference_probability(-large, 30, 0.1).item() == pytest.approx(0.05)
    d = torch.tensor(math.log(3) / 30)
    assert preference_probability(d, 30, 0.0).item() == pytest.approx(0.75)
    assert preference_loss(d, torch.tensor(1.0), 30, 0.0).item() == pytest.approx(-math.log(0.75))
    assert preference_loss(d, torch.tensor(0.0), 30, 0.0).item() == pytest.approx(-math.log(0.25))
    half = -0.5 * math.log(0.75) - 0.5 * math.log(0.25)
    assert preference_loss(d, torch.tensor(0.5), 30, 0.0).item() == pytest.approx(half)
    assert preference_loss(-large, torch.tensor(1.0), 30, 0.1).item() == pytest.approx(math.log(20))  # a mistake's cost


def test_gradient_equals_finite_differences() -> None:
    d = torch.tensor([0.03, -0.01, 0.002], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: preference_loss(x, target, 30, 0.1), d)


@pytest.mark.parametrize(
    ("members", "bootstrap", "answers"), [(5, 0.8, 100), (5, 0.8, 7), (1, 0.8, 10), (3, 0.5, 12), (4, 1.0, 9)]
)
def test_held_out_answers(members: int, bootstrap: float, answers: int) -> None:
    mask = held_out_mask(members, answers, bootstrap, np.random.default_rng(0))
    assert mask.shape == (members, answers)
    np.testing.assert_allclose(mask.mean(1), 1 - bootstrap, atol=1 / answers + 1e-9)
    if members * (1 - bootstrap) >= 1:
        assert mask.any(0).all()


def test_it_learns_a_planted_reward(fitted: tuple) -> None:
    model, metrics, _ = fitted
    assert metrics["heldout_accuracy"] > 0.75
    pairs, target = answered(300, 99)
    assert ((model.probability(pairs).mean(0) > 0.5) == (target > 0.5)).mean() > 0.8
    fresh = random_segments(np.random.default_rng(7), 50, 30)
    assert np.corrcoef(model.predict(fresh).ravel(), planted(fresh).ravel())[0, 1] > 0.6


def test_held_out_accuracy_is_honest(fitted: tuple) -> None:
    """Coin-flip answers can be learned by heart, but not held out."""
    model = RewardModel(17, 6, RewardConfig())
    pairs, _ = answered(100, 0)
    coins = np.random.default_rng(3).integers(2, size=100).astype(np.float32)
    metrics = model.fit(pairs, coins, random_segments(np.random.default_rng(5), 60, 30), np.random.default_rng(0))
    assert metrics["train_accuracy"] > 0.8
    assert 0.3 < metrics["heldout_accuracy"] < 0.7


def test_output_is_normalised_per_member_on_the_reference_and_frozen(fitted: tuple) -> None:
    model, _, reference = fitted
    members = model.members(reference)
    np.testing.assert_allclose(members.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(members.std((1, 2)), 1, atol=1e-3)
    shifted = Segments(reference.obs + 3, reference.action, reference.next_obs, reference.env_reward)
    first = model.predict(shifted)
    for _ in range(3):  # scoring moves nothing
        np.testing.assert_array_equal(model.predict(shifted), first)


def test_scores_do_not_depend_on_the_company(fitted: tuple) -> None:
    model = fitted[0]
    rollout = random_rollout(np.random.default_rng(0), T=70, N=5)
    whole = model.predict(rollout)
    assert whole.shape == (70, 5) and whole.dtype == np.float32
    np.testing.assert_allclose(model.predict(rollout.as_segments()[:3]), whole[:3], atol=1e-5)


def test_it_sees_executed_actions_and_never_the_environments_reward() -> None:
    for inputs in ("state-action", "state"):
        model = RewardModel(17, 6, RewardConfig(inputs=inputs, steps=25))  # type: ignore[arg-type]
        pairs, target = answered(20, 0)
        blind = Segments(pairs.obs, pairs.action, pairs.next_obs, np.full_like(pairs.env_reward, np.nan))
        reference = random_segments(np.random.default_rng(1), 10, 30)
        model.fit(blind, target, reference, np.random.default_rng(0))
        assert np.isfinite(model.predict(blind)).all()
        moved = Segments(pairs.obs, -pairs.action, pairs.next_obs, pairs.env_reward)
        assert (model.predict(moved) == model.predict(pairs)).all() == (inputs == "state")


def test_same_seed_same_bits_another_seed_not() -> None:
    pairs, target = answered(20, 0)
    reference = random_segments(np.random.default_rng(1), 10, 30)
    scores = []
    for seed in (0, 0, 1):
        model = RewardModel(17, 6, RewardConfig(steps=50))
        model.fit(pairs, target, reference, np.random.default_rng(seed))
        scores.append(model.predict(reference))
    assert (scores[0] == scores[1]).all() and not (scores[0] == scores[2]).all()


@pytest.mark.parametrize("answers", [1, 2, 3])
def test_a_handful_of_answers(answers: int) -> None:
    model = RewardModel(17, 6, RewardConfig(steps=30))
    pairs, target = answered(answers, 0)
    metrics = model.fit(pairs, target, random_segments(np.random.default_rng(1), 10, 30), np.random.default_rng(0))
    json.dumps(metrics)
    assert np.isfinite(model.predict(pairs)).all()


def test_ties_pull_together() -> None:
    pairs, _ = answered(40, 0)
    model = RewardModel(17, 6, RewardConfig())
    model.fit(
        pairs, np.full(40, 0.5, np.float32), random_segments(np.random.default_rng(1), 10, 30), np.random.default_rng(0)
    )
    assert np.abs(model.probability(pairs).mean(0) - 0.5).mean() < 0.1


def test_members_disagree_more_away_from_the_data(fitted: tuple) -> None:
    model, _, reference = fitted
    far = Segments(reference.obs * 3, reference.action * 3, reference.next_obs, reference.env_reward)
    assert model.uncertainty(far).mean() > 1.2 * model.uncertainty(reference).mean()


def test_the_weights_kept_are_those_of_the_lowest_held_out_loss() -> None:
    """Answers with mistakes are learned by heart in the end; the held-out loss says when to stop."""
    pairs, target = answered(60, 0)
    wrong = np.random.default_rng(1).random(60) < 0.3
    target[wrong] = 1 - target[wrong]
    reference = random_segments(np.random.default_rng(5), 60, 30)
    losses = {}
    for steps in (100, 150, 400):
        model = RewardModel(17, 6, RewardConfig(steps=steps))
        losses[steps] = model.fit(pairs, target, reference, np.random.default_rng(0))
    assert losses[400]["heldout_loss"] <= min(losses[100]["heldout_loss"], losses[150]["heldout_loss"]) + 1e-6
    assert losses[400]["steps"] < 400


def test_state_round_trip(fitted: tuple, tmp_path: object) -> None:
    model, _, reference = fitted
    save_state(f"{tmp_path}/m.npz", model.state())
    other = RewardModel(17, 6, RewardConfig())
    other.load_state(load_state(f"{tmp_path}/m.npz"))
    np.testing.assert_array_equal(other.predict(reference), model.predict(reference))


def test_known_reward_stands_in() -> None:
    reward = KnownReward(planted)
    reference = random_segments(np.random.default_rng(1), 10, 30)
    assert (reward.predict(reference) == 0).all()
    pairs, target = answered(30, 0)
    reward.fit(pairs, target, reference, np.random.default_rng(0))
    assert reward.predict(reference).mean() == pytest.approx(0, abs=1e-5)
    assert reward.predict(reference).std() == pytest.approx(1, abs=1e-5)
    assert ((reward.probability(pairs)[0] > 0.5) == (target > 0.5)).all()
    again = KnownReward(planted)
    again.load_state(reward.state())
    np.testing.assert_array_equal(again.predict(reference), reward.predict(reference))
    constant = KnownReward(lambda s: np.ones_like(s.env_reward), normalized=False)
    constant.fit(pairs, target, reference, np.random.default_rng(0))
    assert (constant.predict(reference) == 1).all()
