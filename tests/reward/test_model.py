import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.reward.model import RewardModel, check_env, comparisons
from rlhf_control.runs.files import load_state, save_state
from tests.conftest import random_rollout, random_segments
from tests.reward.given_answers import answered


def planted(s: Segments) -> np.ndarray:
    """A reward the model can see: (..., L)."""
    return s.obs[..., 8] - 0.5 * np.square(s.action).sum(-1)


def reference_clips(seed: int = 1, n: int = 10) -> Segments:
    return random_segments(np.random.default_rng(seed), n, 30)


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
    metrics = model.fit(comparisons(pairs, coins), reference_clips(5, 60), np.random.default_rng(0))
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
    for inputs in ("state-action", "state", "next-state"):
        model = RewardModel(17, 6, RewardConfig(inputs=inputs, steps=25))  # type: ignore[arg-type]
        pairs, target = answered(20, 0)
        blind = Segments(pairs.obs, pairs.action, pairs.next_obs, np.full_like(pairs.env_reward, np.nan))
        reference = random_segments(np.random.default_rng(1), 10, 30)
        model.fit(comparisons(blind, target), reference, np.random.default_rng(0))
        assert np.isfinite(model.predict(blind)).all()
        moved = Segments(pairs.obs, -pairs.action, pairs.next_obs, pairs.env_reward)
        assert (model.predict(moved) == model.predict(pairs)).all() == (inputs != "state-action")


def test_same_seed_same_bits_another_seed_not() -> None:
    pairs, target = answered(20, 0)
    reference = random_segments(np.random.default_rng(1), 10, 30)
    scores = []
    for seed in (0, 0, 1):
        model = RewardModel(17, 6, RewardConfig(steps=50))
        model.fit(comparisons(pairs, target), reference, np.random.default_rng(seed))
        scores.append(model.predict(reference))
    assert (scores[0] == scores[1]).all() and not (scores[0] == scores[2]).all()


@pytest.mark.parametrize("answers", [1, 2, 3])
def test_a_handful_of_answers(answers: int) -> None:
    model = RewardModel(17, 6, RewardConfig(steps=30))
    pairs, target = answered(answers, 0)
    metrics = model.fit(comparisons(pairs, target), reference_clips(), np.random.default_rng(0))
    json.dumps(metrics)
    assert np.isfinite(model.predict(pairs)).all()


def test_ties_pull_together() -> None:
    pairs, _ = answered(40, 0)
    model = RewardModel(17, 6, RewardConfig())
    model.fit(comparisons(pairs, np.full(40, 0.5, np.float32)), reference_clips(), np.random.default_rng(0))
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
        losses[steps] = model.fit(comparisons(pairs, target), reference, np.random.default_rng(0))
    assert losses[400]["heldout_loss"] <= min(losses[100]["heldout_loss"], losses[150]["heldout_loss"]) + 1e-6
    assert losses[400]["steps"] < 400


def test_state_round_trip(fitted: tuple, tmp_path: object) -> None:
    model, _, reference = fitted
    save_state(f"{tmp_path}/m.npz", model.state())
    other = RewardModel(17, 6, RewardConfig())
    other.load_state(load_state(f"{tmp_path}/m.npz"))
    np.testing.assert_array_equal(other.predict(reference), model.predict(reference))


# -- clips


def test_all_steps_of_a_clip_count_when_it_is_judged(fitted: tuple) -> None:
    model = fitted[0]
    clips = random_segments(np.random.default_rng(0), 3, 188)
    logits = model.clip_logits(clips)
    for step in (0, 93, 187):
        other = Segments(**{name: array.copy() for name, array in clips.arrays().items()})
        other.obs[:, step] += 1
        assert (model.clip_logits(other) != logits).any(1).all()


def test_a_fit_of_long_clips_sees_all_of_their_steps() -> None:
    pairs, target = answered(30, 0, length=120)
    model = RewardModel(17, 6, RewardConfig(members=2, bootstrap=0.5, steps=60, crop=0.7))
    model.fit(comparisons(pairs, target), reference_clips(), np.random.default_rng(0))
    assert ((model.probability(pairs).mean(0) > 0.5) == (target > 0.5)).mean() > 0.8


def test_comparisons_as_answers() -> None:
    pairs, _ = answered(3, 0)
    answers = comparisons(pairs, np.array([1.0, 0.0, 0.5]))
    assert answers.ranks.tolist() == [[0, 1], [1, 0], [0, 0]] and answers.items.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_array_equal(answers.clips.obs[answers.items], pairs.obs)


# -- what it reads


def test_what_is_left_out_does_not_count() -> None:
    model = RewardModel(17, 6, RewardConfig(steps=30, members=2, bootstrap=0.5, obs_parts=("0:3", "8")))
    pairs, target = answered(20, 0)
    model.fit(comparisons(pairs, target), reference_clips(), np.random.default_rng(0))
    assert model.inputs == 4 + 6
    for column, counts in ((8, True), (2, True), (3, False), (16, False)):
        obs = pairs.obs.copy()
        obs[..., column] += 1
        moved = Segments(obs, pairs.action, pairs.next_obs, pairs.env_reward)
        assert (model.predict(moved) != model.predict(pairs)).any() == counts


def test_steps_of_another_environment_are_refused(fitted: tuple) -> None:
    steps = reference_clips()
    other = Segments(steps.obs[..., :11], steps.action[..., :3], steps.next_obs[..., :11], steps.env_reward)
    with pytest.raises(UserError, match="observations of 17 and actions of 6 numbers; these have 11 and 3"):
        fitted[0].predict(other)


# -- uncertainty


def test_uncertainty_rises_where_the_members_do_not_know() -> None:
    """Data near a line: off it, though within the range of each number, and beyond the input clip, the members agree as
    before; the distance to the data tells."""
    rng = np.random.default_rng(0)

    def on_the_line(*shape: int) -> Segments:
        steps = random_segments(rng, *shape)
        along = rng.normal(size=(*shape, 1))
        return Segments(
            (along + 0.05 * steps.obs).astype(np.float32), 0 * steps.action, steps.next_obs, steps.env_reward
        )

    pairs = on_the_line(60, 2, 30)
    target = (pairs.obs[..., 0].mean(-1)[:, 0] > pairs.obs[..., 0].mean(-1)[:, 1]).astype(np.float32)
    model = RewardModel(17, 6, RewardConfig())
    model.fit(comparisons(pairs, target), on_the_line(60, 30), np.random.default_rng(0))
    new = on_the_line(500)
    signs = np.where(np.arange(17) % 2, 1, -1).astype(np.float32)
    across = Segments(new.obs * signs, new.action, new.next_obs, new.env_reward)  # each number as before, not together
    far, farther = (Segments(new.obs * 0 + k, new.action, new.next_obs, new.env_reward) for k in (10.0, 20.0))

    def spread(steps: Segments) -> float:
        return float(model.members(steps).std(0).mean())

    assert (model.novelty(new) == 0).mean() > 0.85
    np.testing.assert_allclose(
        model.uncertainty(new)[model.novelty(new) == 0], model.members(new).std(0)[model.novelty(new) == 0]
    )
    assert model.uncertainty(across).mean() > 3 * spread(across) and model.novelty(across).mean() > 1
    assert spread(farther) == pytest.approx(spread(far))  # the input clip
    assert model.uncertainty(farther).mean() > model.uncertainty(far).mean() + 0.5 > 3 * model.uncertainty(new).mean()


def test_a_conservative_reward_is_lower_off_the_data() -> None:
    pairs, target = answered(40, 0)
    reference = reference_clips(5, 60)
    far = Segments(reference.obs * 4, reference.action, reference.next_obs, reference.env_reward)
    models = []
    for c in (0.0, 0.5):
        model = RewardModel(17, 6, RewardConfig(conservative=c, steps=60, members=3))
        model.fit(comparisons(pairs, target), reference, np.random.default_rng(0))
        models.append(model)
    plain, careful = models
    assert abs(careful.predict(reference).mean()) < 1e-3  # still 0 where it is at home
    fall = plain.predict(far) - careful.predict(far)
    np.testing.assert_allclose(fall, 0.5 * (plain.uncertainty(far) - plain.usual_uncertainty), atol=1e-4)
    assert fall.mean() > 0.2


# -- fitting


def test_a_warm_fit_goes_on_where_the_last_one_ended() -> None:
    pairs, target = answered(60, 0)
    fresh, truth = answered(200, 8)
    accuracy = {}
    for start in ("scratch", "warm"):
        model = RewardModel(17, 6, RewardConfig(start=start, members=3, steps=150))  # type: ignore[arg-type]
        model.fit(comparisons(pairs, target), reference_clips(), np.random.default_rng(0))
        model.config = RewardConfig(start=start, members=3, steps=2)  # type: ignore[arg-type]
        model.fit(comparisons(pairs, target), reference_clips(2), np.random.default_rng(1))
        accuracy[start] = ((model.probability(fresh).mean(0) > 0.5) == (truth > 0.5)).mean()
    assert accuracy["warm"] > accuracy["scratch"] + 0.1


def test_new_normalisers_do_not_change_what_warm_networks_say(fitted: tuple, tmp_path: Path) -> None:
    fitted[0].save(tmp_path / "reward.npz")
    model = RewardModel.load(tmp_path / "reward.npz")
    rng = np.random.default_rng(9)
    clips = random_segments(rng, 20, 30)
    small = Segments(clips.obs / 2, clips.action, clips.next_obs, clips.env_reward)  # clear of the input clip
    before = model.clip_logits(small)
    model._standardise_on(torch.from_numpy(rng.normal(0.3, 1.5, (500, 23)).astype(np.float32)), keep_function=True)
    np.testing.assert_allclose(model.clip_logits(small), before, atol=1e-3)


def test_temperature_makes_overconfident_probabilities_honest() -> None:
    pairs, target = answered(150, 0, length=8)
    wrong = np.random.default_rng(1).random(150) < 0.25
    target[wrong] = 1 - target[wrong]
    errors = {}
    for calibrate in (False, True):
        model = RewardModel(17, 6, RewardConfig(calibrate=calibrate, members=3, bootstrap=0.7))
        metrics = model.fit(comparisons(pairs, target), reference_clips(), np.random.default_rng(0))
        errors[calibrate] = metrics["heldout_ece"]
    assert model.temperature > 1.5 and metrics["temperature"] == model.temperature
    assert errors[True] < errors[False]


# -- files


def test_a_saved_model_is_whole(fitted: tuple, tmp_path: Path) -> None:
    model, _, reference = fitted
    model.save(tmp_path / "reward.npz")
    again = RewardModel.load(tmp_path / "reward.npz")
    assert again.config == model.config and again.fitted
    for name in ("predict", "uncertainty", "clip_logits"):
        np.testing.assert_array_equal(getattr(again, name)(reference), getattr(model, name)(reference))


def test_a_model_knows_its_environment(fitted: tuple, tmp_path: Path) -> None:
    """HalfCheetah-v5 and Walker2d-v5 both have 17 and 6 numbers. Older files do not say which they are for."""
    path = tmp_path / "reward.npz"
    model = RewardModel(17, 6, RewardConfig(), "HalfCheetah-v5")
    model.load_state(fitted[0].state())
    model.save(path)
    assert RewardModel.load(path).env_id == RewardModel.load(path, "HalfCheetah-v5").env_id == "HalfCheetah-v5"
    with pytest.raises(UserError, match=r"is for HalfCheetah-v5, not for Walker2d-v5"):
        RewardModel.load(path, "Walker2d-v5")
    RewardModel.load(path, "some_module:HalfCheetah-v5")
    old = load_state(path)
    del old["env_id"]
    save_state(path, old)
    again = RewardModel.load(path, "Walker2d-v5")
    assert again.env_id == "" and again.fitted
    check_env(again, "Hopper-v5")


def test_what_is_not_a_whole_model_is_refused(fitted: tuple, tmp_path: Path) -> None:
    model = fitted[0]
    path = tmp_path / "reward.npz"
    save_state(path, {"kind": "policy"})
    with pytest.raises(CorruptFileError, match="is not a reward model"):
        RewardModel.load(path)
    state = model.state()
    facts = {"kind": "reward model", "obs_size": 17, "action_size": 6, "config": {"members": 5}}
    for damage in (
        {"obs_size": 18},
        {"config": {"members": 3}},
        {"layers": {}},
        {"config": {"member": 5}},
        {"obs_size": "17"},
    ):
        save_state(path, {**facts, **state, **damage})
        with pytest.raises(UserError, match=r"is not a whole reward model|of another version"):
            RewardModel.load(path)
    model.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="damaged"):
        RewardModel.load(path)
    with pytest.raises(UserError, match="does not exist"):
        RewardModel.load(tmp_path / "none.npz")
