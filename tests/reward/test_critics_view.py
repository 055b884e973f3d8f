"""The reward sees what the pretrained critic does: inputs by which a few answers teach a kept task's manner."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlhf_control.config import FinetuneConfig, NetConfig, RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.spaces import Spaces
from rlhf_control.training.parts import reward_sees_through

SPACES = Spaces.of(Box(-np.inf, np.inf, (6,), np.float32), Box(-1, 1, (2,), np.float32))


def a_policy(**net: object) -> Policy:
    """One whose critic says something bent, of observations that are not normalised yet."""
    policy = Policy(SPACES, NetConfig(hidden=(8, 8), **net), 3, "", {})  # type: ignore[arg-type]
    with torch.no_grad():
        for layer in policy.critic[::2]:
            layer.weight.mul_(2)
    policy.observe(np.random.default_rng(5).normal(3, 2, (500, 6)).astype(np.float32))
    return policy


def clips_of(n: int, seed: int) -> Segments:
    rng = np.random.default_rng(seed)
    obs = rng.normal(3, 2, (n, 5, 6)).astype(np.float32)
    return Segments(obs, rng.normal(size=(n, 5, 2)).astype(np.float32), obs, np.zeros((n, 5), np.float32))


@pytest.mark.parametrize("shared", [(), (7,)])
def test_behind_the_numbers_stand_the_critics_last_layer_and_its_value(shared: tuple[int, ...]) -> None:
    policy = a_policy(shared=shared)
    view, obs = CriticsView(policy), clips_of(4, 0).obs
    seen = view.without_gradients(view.prepare(obs))
    assert seen.shape == (4, 5, view.size) == (4, 5, 6 + 8 + 1)
    np.testing.assert_array_equal(seen[..., :6], obs)
    features = policy.features(obs)
    torch.testing.assert_close(seen[..., -1], policy.value(features, gradients=False))
    torch.testing.assert_close(policy.critic[-1](seen[..., 6:-1])[..., 0], seen[..., -1])
    with torch.no_grad():
        policy.critic[0].weight.zero_()
    torch.testing.assert_close(view.without_gradients(view.prepare(obs)), seen)  # it is a copy


def test_what_the_critic_knows_takes_fewer_answers(tmp_path: Path) -> None:
    policy, clips, fresh = a_policy(), clips_of(160, 1), clips_of(300, 2)
    wanted, of_fresh = (policy.value(policy.features(c.obs), gradients=False).detach().numpy() for c in (clips, fresh))
    pairs = Segments(**{name: a.reshape(80, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    worth = wanted.mean(1).reshape(80, 2)
    answers = comparisons(pairs, (worth[:, 0] > worth[:, 1]).astype(np.float32))
    models = [RewardModel(6, 2, RewardConfig(), "", view) for view in (CriticsView(policy), None)]
    for model in models:
        model.fit(answers, clips, np.random.default_rng(0))
    with_view, without = (np.corrcoef(m.predict(fresh).ravel(), of_fresh.ravel())[0, 1] for m in models)
    assert with_view > 0.9 and with_view > without + 0.1
    models[0].save(tmp_path / "reward.npz")
    loaded = RewardModel.load(tmp_path / "reward.npz")
    np.testing.assert_array_equal(loaded.uncertainty(fresh), models[0].uncertainty(fresh))
    state = load_state(tmp_path / "reward.npz")
    parameters = state["encoder"]["critic_of"]["parameters"]
    parameters[next(name for name in parameters if name.startswith("critic"))] = np.zeros((3, 3), np.float32)
    save_state(tmp_path / "damaged.npz", state)
    with pytest.raises(CorruptFileError):
        RewardModel.load(tmp_path / "damaged.npz")


def test_it_is_for_a_skill_that_is_kept_of_a_task_that_is_done_at_some_point() -> None:
    """How well a robot runs its numbers say themselves."""
    policy, config = find_policy("armreach"), FinetuneConfig("")
    assert isinstance(reward_sees_through(config, policy, policy.env), CriticsView)
    runs = find_policy("halfcheetah")
    assert reward_sees_through(config, runs, runs.env) is None
    for otherwise in (
        replace(config, shrink=0.1),
        replace(config, reward=RewardConfig(obs_parts=("0:3",))),
        replace(config, reward=RewardConfig(critics_view="off")),
        replace(config, feedback=("comparison", "success")),
    ):
        assert reward_sees_through(otherwise, policy, policy.env) is None
    forced = replace(config, shrink=0.1, reward=RewardConfig(critics_view="on"))
    assert isinstance(reward_sees_through(forced, runs, runs.env), CriticsView)
    with pytest.raises(UserError, match="obs_parts names"):
        RewardConfig(critics_view="on", obs_parts=("0:3",))
