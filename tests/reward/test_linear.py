import numpy as np
import pytest
import torch

from rlhf_control.config import FinetuneConfig, RewardConfig
from rlhf_control.data import KINDS, SUCCESS, Answers, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.known import linear_wanted, make_reward
from rlhf_control.reward.likelihoods import ranking_log_prob
from rlhf_control.reward.linear import curvature, effort, feature_count, features, fit_linear, solve
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.files import load_state, save_state
from tests.conftest import random_segments

FIRST_BEST = torch.tensor([0, 1])


def bradley_terry(lapse: float = 0.0):
    """The first clip of every answer is preferred."""
    return lambda logits: ranking_log_prob(logits, FIRST_BEST.expand(logits.shape), None, lapse)


@pytest.mark.parametrize("actions", [0, 1, 2])
def test_features_worked_by_hand(actions: int) -> None:
    """(x^2 - 1) / sqrt(2) of 3, -5 (of -9, clipped) and 1 are 5.66 (clipped to 5), 5 and 0. The actions are -4.5 and 3:
    their squares are 29.25, by 24 more than 0.25 + 4 + 1, in units of sqrt(2 / 16 + 2 * 16 + 4 * 4)."""
    mean, std = torch.tensor([7.0, 0.0, 1.0]), torch.tensor([1.0, 0.5, 2.0])
    found = features(torch.tensor([[3.0, -9.0, 1.0]]), mean, std, actions, 5.0)
    tried = [3 * 24 / 48.125**0.5] if actions == 2 else []
    torch.testing.assert_close(found, torch.tensor([[3.0, -5.0, 1.0, 5.0, 5.0, 0.0, *tried]]))
    assert found.shape[-1] == feature_count(3, actions)


def test_effort_has_a_variance_and_choices_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    motors = 0.3 * torch.randn(4000, 3, generator=generator) + torch.tensor([0.0, 0.5, -0.2])
    chosen = torch.eye(3)[torch.randint(3, (4000,), generator=generator)]
    for actions, expected in ((motors, 1.0), (chosen, 0.0)):
        found = effort(actions, actions.mean(0), actions.std(0))
        assert float(found.mean()) == pytest.approx(0, abs=0.05)
        assert float(found.std()) == pytest.approx(expected, rel=0.1, abs=1e-4)


def test_effort_is_clipped_and_motors_that_are_held_are_not_blown_up() -> None:
    nothing, ones = torch.zeros(2), torch.ones(2)
    assert features(torch.tensor([[9.0, 9.0]]), nothing, ones, 2, 5.0)[0, -1] == 15.0  # 160 / 2, clipped
    assert effort(torch.tensor([0.99, 1.0]), ones, 1e-3 * ones) == pytest.approx(-0.0199 / 0.01, abs=0.01)


def test_curvature_worked_by_hand() -> None:
    """P = sigmoid(1): the gradient is 1 - P = 0.269 up and down, minus the second derivative P (1 - P) = 0.197."""
    slope, root = curvature(bradley_terry(), torch.tensor([[[1.0, 0.0]]]).double())
    torch.testing.assert_close(slope, torch.tensor([[[0.2689, -0.2689]]], dtype=torch.float64), atol=1e-4, rtol=0)
    by_hand = torch.tensor([[[[0.1966, -0.1966], [-0.1966, 0.1966]]]], dtype=torch.float64)
    assert root.shape == (1, 1, 2, 1)
    torch.testing.assert_close(root @ root.mT, by_hand, atol=1e-4, rtol=0)


def test_the_curvature_of_one_logit_and_of_four() -> None:
    """log sigmoid, and first choices among four, whose second derivatives are those of the softmax."""
    _, root = curvature(lambda logits: torch.nn.functional.logsigmoid(logits[..., 0]), torch.tensor([[[1.0]]]).double())
    assert (root @ root.mT).item() == pytest.approx(0.1966, abs=1e-4)
    logits = torch.tensor([[[1.0, 0.0, 2.0, -1.0]]]).double()
    first = torch.tensor([0, 1, 1, 1])
    _, root = curvature(lambda x: ranking_log_prob(x, first.expand(x.shape)), logits)
    p = logits[0, 0].softmax(-1)
    assert root.shape == (1, 1, 4, 3)
    torch.testing.assert_close((root @ root.mT)[0, 0], torch.diag(p) - p[:, None] * p, atol=1e-5, rtol=0)


def test_what_is_likely_a_lapse_is_straight() -> None:
    """With half of all answers lapses, one against a difference of 6 is nearly surely one: its likelihood bends
    upwards, which would make Newton's step go the wrong way."""
    _, root = curvature(bradley_terry(0.5), torch.tensor([[[-3.0, 3.0]]]).double())
    torch.testing.assert_close(root, torch.zeros_like(root), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("rows", "size"), [(9, 4), (4, 9)])
def test_both_ways_to_solve_are_the_plain_one(rows: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    u, gradient, precision = (torch.rand(*shape, generator=generator, dtype=torch.float64)
                              for shape in ((3, rows, size), (3, size), (3, size)))  # fmt: skip
    step, variance = solve(u, precision, gradient)
    inverse = torch.linalg.inv(u.mT @ u + torch.diag_embed(precision))
    torch.testing.assert_close(step, (inverse @ gradient[..., None])[..., 0])
    torch.testing.assert_close(variance, inverse.diagonal(dim1=1, dim2=2))


def given(means: torch.Tensor, better: torch.Tensor, rng: np.random.Generator, answers: int) -> torch.Tensor:
    """So many pairs of clips, the better one first."""
    items = torch.from_numpy(rng.choice(len(means), (answers, 2)))
    return torch.where((better[items[:, :1]] > better[items[:, 1:]]), items, items.flip(1))


def test_thirty_answers_tell_which_of_sixty_numbers_counts() -> None:
    rng = np.random.default_rng(0)
    means = torch.from_numpy(rng.normal(size=(200, 60)).astype(np.float32))
    items = given(means[:100], means[:100, 7], rng, 30)
    (weights,) = fit_linear(bradley_terry(0.1), means, items, torch.ones(1, 30, dtype=torch.bool))
    assert weights.abs().argmax() == 7 and weights[7] > 1
    assert torch.corrcoef(torch.stack([means[100:] @ weights, means[100:, 7]]))[0, 1] > 0.95


def test_members_learn_from_what_they_see() -> None:
    """What nobody sees may as well be the opposite; a member that sees nothing says nothing."""
    rng = np.random.default_rng(1)
    means = torch.from_numpy(rng.normal(size=(50, 4)).astype(np.float32))
    items, seen = given(means, means[:, 0], rng, 20), torch.zeros(2, 20, dtype=torch.bool)
    seen[0, :15] = True
    weights = fit_linear(bradley_terry(), means, items, seen)
    assert weights[0, 0] > 0.3 and not weights[1].any()
    items[15:] = items[15:].flip(1)
    torch.testing.assert_close(fit_linear(bradley_terry(), means, items, seen), weights)


def test_coin_flips_weigh_next_to_nothing() -> None:
    rng = np.random.default_rng(2)
    means = torch.from_numpy(rng.normal(size=(80, 20)).astype(np.float32))
    items = torch.from_numpy(rng.choice(80, (60, 2)))
    weights = fit_linear(bradley_terry(0.1), means, items, torch.ones(1, 60, dtype=torch.bool))
    assert weights.norm() < 1.5  # of who weighs one number by a vote's worth: 5 and more


def test_no_member_knows_of_answers_that_it_does_not_see() -> None:
    """What another learns from them is nothing to it, or what is held out would be predicted however random."""
    rng = np.random.default_rng(3)
    means = torch.from_numpy(rng.normal(size=(60, 30)).astype(np.float32))
    items = torch.from_numpy(rng.choice(60, (40, 2)))
    seen = torch.ones(2, 40, dtype=torch.bool)
    seen[0, 20:] = False
    first = fit_linear(bradley_terry(0.1), means, items, seen)[0]
    items[20:] = items[20:].flip(1)
    torch.testing.assert_close(fit_linear(bradley_terry(0.1), means, items, seen)[0], first, atol=1e-3, rtol=1e-2)


def test_effort_of_eight_motors_is_one_thing() -> None:
    """Of 100 answers to a speed less the squares of all actions, which come to two fifths of its variance."""
    rng = np.random.default_rng(4)

    def worth(x: np.ndarray) -> np.ndarray:
        return x[:, 0] - 0.2 * (np.square(x[:, 5:]) - 1).sum(1)

    x = rng.normal(size=(400, 13)).astype(np.float32)
    items = given(torch.from_numpy(x), torch.from_numpy(worth(x)), rng, 100)
    scale = torch.zeros(13), torch.ones(13)
    found = {}
    for actions in (0, 8):
        means = features(torch.from_numpy(x), *scale, actions, 5.0)
        (weights,) = fit_linear(bradley_terry(0.1), means, items, torch.ones(1, 100, dtype=torch.bool))
        fresh = features(torch.from_numpy(rng.normal(size=(500, 13)).astype(np.float32)), *scale, actions, 5.0)
        found[actions] = float(np.corrcoef(fresh @ weights, worth(fresh.numpy()[:, :13]))[0, 1])
    assert 1 - found[8] < (1 - found[0]) / 2


def judged(clips: Segments, worth: np.ndarray) -> Answers:
    """Answers about clips (2 Q, L, ...), two by two, by what their steps are worth."""
    pairs = Segments(**{name: a.reshape(-1, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    score = worth.mean(-1).reshape(-1, 2)
    return comparisons(pairs, (score[:, 0] > score[:, 1]).astype(float))


def test_a_model_learns_of_effort_whose_motors_are_held_off_their_middle() -> None:
    """Of 80 answers by the squares of six actions alone, whose means and widths differ from clip to clip."""
    rng = np.random.default_rng(5)

    def clips(number: int) -> Segments:
        found = random_segments(rng, number, 10)
        held = rng.normal(0.5, 0.3, size=(number, 1, 6))
        found.action[...] = held + np.array([0.1, 0.2, 0.4, 0.1, 0.2, 0.4]) * rng.normal(size=found.action.shape)
        return found

    some, fresh = clips(160), clips(100)
    model = RewardModel(17, 6, RewardConfig(linear="on", members=3))
    model.fit(judged(some, -np.square(some.action).sum(-1)), some, rng)
    assert model.linear is not None and (model.linear[:, -1] < 0).all()
    true = -np.square(fresh.action).sum(-1)
    assert np.corrcoef(model.predict(fresh).mean(1), true.mean(1))[0, 1] > 0.97


@pytest.mark.parametrize(("inputs", "columns"), [("state", 34), ("next-state", 34), ("state-action", 47)])
def test_effort_is_of_actions_that_are_seen(inputs, columns: int) -> None:
    answers, clips = pairs_by(lambda obs: obs[..., 8], 20, np.random.default_rng(0))
    model = RewardModel(17, 6, RewardConfig(linear="on", members=2, inputs=inputs))
    model.fit(answers, clips, np.random.default_rng(0))
    assert model.linear is not None and model.linear.shape == (2, columns)


def pairs_by(worth, number: int, rng: np.random.Generator, wrong: float = 0.0):
    """Answers about random clips of 10 steps, by what a step (..., O) is worth."""
    clips = random_segments(rng, 2 * number, 10)
    score = worth(clips.obs).mean(-1).reshape(-1, 2)
    pairs = Segments(**{name: a.reshape(number, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    target = (score[:, 0] > score[:, 1]).astype(float)
    return comparisons(pairs, np.where(rng.random(number) < wrong, 1 - target, target)), clips


def correlation(model: RewardModel, worth) -> float:
    fresh = random_segments(np.random.default_rng(99), 50, 10)
    return float(np.corrcoef(model.predict(fresh).ravel(), worth(fresh.obs).ravel())[0, 1])


def test_the_line_needs_fewer_answers_than_networks() -> None:
    """A speed, less the square of a height: from 60 answers, and networks add nothing to it."""

    def worth(obs: np.ndarray) -> np.ndarray:
        return obs[..., 8] - 0.5 * np.square(obs[..., 0])

    found = {}
    for linear in ("on", "off"):
        model = RewardModel(17, 6, RewardConfig(linear=linear))
        answers, clips = pairs_by(worth, 60, np.random.default_rng(0))
        model.fit(answers, clips, np.random.default_rng(0))
        found[linear] = correlation(model, worth)
        silent = not any(parameter.any() for parameter in model.layers[-1])
        assert silent == (linear == "on")
    assert found["on"] > 0.95 and found["off"] < 0.8


def test_networks_learn_what_is_no_line() -> None:
    """Of 400 answers about the product of two numbers, on which no number or square of one has a bearing."""

    def worth(obs: np.ndarray) -> np.ndarray:
        return obs[..., 0] * obs[..., 1]

    model = RewardModel(17, 6, RewardConfig(linear="on", members=3, obs_parts=("0:2",), inputs="state"))
    answers, clips = pairs_by(worth, 400, np.random.default_rng(0))
    model.fit(answers, clips, np.random.default_rng(0))
    assert all(parameter.any() for parameter in model.layers[-1])
    assert correlation(model, worth) > 0.8


def coin_flips(answers: int, seed: int) -> dict[str, float]:
    """What a fit says of so many answers about clips that differ, one like the other."""
    rng = np.random.default_rng(seed)
    clips = random_segments(rng, 2 * answers, 10)
    clips.obs[...] += rng.normal(size=(2 * answers, 1, 17)).astype(np.float32)
    pairs = Segments(**{name: a.reshape(answers, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    model = RewardModel(17, 6, RewardConfig(linear="on"))
    return model.fit(comparisons(pairs, rng.integers(2, size=answers).astype(float)), clips, rng)


def test_of_coin_flips_half_of_what_is_held_out_is_as_predicted() -> None:
    found = [coin_flips(40, seed) for seed in range(12)]
    assert 0.4 < np.mean([metrics["heldout_accuracy"] for metrics in found]) < 0.58
    assert sum(2 / 3 * metrics["evidence"] > np.log(20) for metrics in found) <= 1


@pytest.mark.parametrize("kind", ["rating", "reward"])
def test_networks_stay_silent_where_a_line_says_all(kind: str) -> None:
    """Where people put their thresholds, and in which unit they give rewards, is no merit of the networks."""
    rng = np.random.default_rng(0)
    clips = random_segments(rng, 80, 10)
    worth = clips.obs[..., 8].mean(-1)
    value = np.digitize(worth, np.quantile(worth, [0.2, 0.4, 0.6, 0.8])) + 1.0 if kind == "rating" else 5 + 3 * worth
    answers = Answers(clips, np.arange(80)[:, None], np.zeros((80, 1), np.int64), np.full(80, KINDS.index(kind)), value)
    model = RewardModel(17, 6, RewardConfig(linear="on"))
    assert model.fit(answers, clips, rng)["steps"] == 0
    assert correlation(model, lambda obs: obs[..., 8]) > 0.95


@pytest.mark.parametrize(("wrong", "lapses"), [(0.0, (0.1,)), (0.25, (0.2, 0.4))])
def test_how_many_answers_are_lapses_is_found_out(wrong: float, lapses: tuple[float, ...]) -> None:
    answers, clips = pairs_by(lambda obs: obs[..., 8], 100, np.random.default_rng(0), wrong)
    model = RewardModel(17, 6, RewardConfig(linear="on"))
    assert model.fit(answers, clips, np.random.default_rng(0))["lapse"] in lapses
    model = RewardModel(17, 6, RewardConfig(linear="on", lapse=0.5))  # the least
    assert model.fit(answers, clips, np.random.default_rng(0))["lapse"] == 0.5


def test_what_leaves_nothing_to_judge_networks_by() -> None:
    """Nothing is held out, or answers are all lapses: networks are silent, and of lapses so is the line."""
    answers, clips = pairs_by(lambda obs: obs[..., 8], 30, np.random.default_rng(0))
    for options in ({"bootstrap": 1.0}, {"lapse": 1.0}):
        model = RewardModel(17, 6, RewardConfig(linear="on", **options))
        model.fit(answers, clips, np.random.default_rng(0))
        assert (model.linear is None) == ("lapse" in options)
    model = RewardModel(17, 6, RewardConfig(linear="on", adaptive_l2=True))
    model.fit(answers, clips, np.random.default_rng(0))
    assert not any(parameter.any() for parameter in model.layers[-1])


def test_a_model_with_a_line_is_kept_and_goes_on(tmp_path) -> None:
    def worth(obs: np.ndarray) -> np.ndarray:
        return obs[..., 8]

    model = RewardModel(17, 6, RewardConfig(linear="on", members=2, start="warm"))
    assert "linear" not in model.state()
    answers, clips = pairs_by(worth, 30, np.random.default_rng(0))
    model.fit(answers, clips, np.random.default_rng(0))
    model.save(tmp_path / "reward.npz")
    again = RewardModel.load(tmp_path / "reward.npz")
    np.testing.assert_array_equal(again.predict(clips), model.predict(clips))
    np.testing.assert_array_equal(again.clip_logits(clips), model.clip_logits(clips))
    model.layers[-1][0][:] = again.layers[-1][0][:] = 0.1  # networks that have spoken can be silent again
    for one in (again, model):
        assert one.fit(answers, clips, np.random.default_rng(1))["steps"] == 0
    assert not model.layers[-1][0].any()
    np.testing.assert_array_equal(again.predict(clips), model.predict(clips))


@pytest.mark.parametrize("damage", [lambda w: w[:, :5], lambda w: w * np.nan, lambda w: w[0]])
def test_a_damaged_line_is_told(tmp_path, damage) -> None:
    model = RewardModel(17, 6, RewardConfig(linear="on", members=2))
    answers, clips = pairs_by(lambda obs: obs[..., 8], 20, np.random.default_rng(0))
    model.fit(answers, clips, np.random.default_rng(0))
    model.save(tmp_path / "reward.npz")
    state = load_state(tmp_path / "reward.npz")
    save_state(tmp_path / "reward.npz", {**state, "linear": damage(state["linear"])})
    with pytest.raises(CorruptFileError, match="not a whole reward model"):
        RewardModel.load(tmp_path / "reward.npz")


def test_it_is_for_numbers_of_which_no_success_is_marked() -> None:
    config = FinetuneConfig("")
    on = FinetuneConfig("", reward=RewardConfig(linear="on"))
    assert linear_wanted(config, None, 0, 17) and linear_wanted(on, None, 0, 17)
    assert not linear_wanted(config, None, 50, 17)  # whole episodes, of which the reward's zero counts
    assert not linear_wanted(FinetuneConfig("", reward=RewardConfig(linear="off")), None, 0, 17)
    assert not linear_wanted(FinetuneConfig("", feedback=(SUCCESS,)), None, 0, 17)
    assert not linear_wanted(config, None, 0, 84 * 84) and linear_wanted(on, None, 0, 84 * 84)
    pictures, view = object.__new__(Encoder), object.__new__(CriticsView)
    for encoder in (pictures, view):
        assert not linear_wanted(config, encoder, 0, 17)
    assert linear_wanted(on, view, 0, 17)
    with pytest.raises(UserError, match="are numbers"):
        linear_wanted(on, pictures, 0, 17)
    model = make_reward(config, 3, 1, "")
    assert isinstance(model, RewardModel) and model.config.linear == "on"


def test_a_line_of_before_there_was_effort_says_what_it_said(tmp_path) -> None:
    model = RewardModel(17, 6, RewardConfig(linear="on", members=2))
    answers, clips = pairs_by(lambda obs: obs[..., 8], 20, np.random.default_rng(0))
    model.fit(answers, clips, np.random.default_rng(0))
    model.linear[:, -1] = 0.0
    model.save(tmp_path / "reward.npz")
    state = load_state(tmp_path / "reward.npz")
    save_state(tmp_path / "before.npz", {**state, "linear": state["linear"][:, :-1]})
    before = RewardModel.load(tmp_path / "before.npz")
    np.testing.assert_array_equal(before.predict(clips), model.predict(clips))
