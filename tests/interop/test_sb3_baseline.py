"""Stable-Baselines3 as a baseline, and its policies in and out."""

import base64
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO as SB3

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.errors import NonFiniteError, Stopped, UserError
from rlhf_control.interop.sb3_baseline import METRICS, make_sb3, pretrain_sb3, train_sb3
from rlhf_control.interop.sb3_policies import import_sb3
from rlhf_control.nets.policy import load_policy
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from tests.interop.sb3_models import SMALL, assert_same_actions, config, new_run, observations, rewritten

# -- the baseline


def test_the_readme_has_the_names_of_both():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert all(f"`{ours}` | `{theirs}`" in readme for ours, theirs in METRICS.items())


def test_rows(trained):
    settings, run, rows, _, _ = trained
    assert rows == run.metrics()
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3]
    assert [row["env_steps"] for row in rows] == [256, 512, 768, 1024]
    assert [row["lr"] for row in rows] == pytest.approx([0.0075, 0.005, 0.0025, 0])
    for row in rows:
        assert row["steps_per_second"] > 0 and row["wall_seconds"] > 0
        assert (row["env_return"] is None) == (row["episode_length"] is None)
        assert all(np.isfinite(row[name]) for name in ("policy_loss", "value_loss", "approx_kl", "entropy"))
    assert rows[0]["approx_kl"] > 0
    if settings.env_id == "CartPole-v1":  # one point a step, whatever the learner's reward is scaled to
        assert all(row["env_return"] == row["episode_length"] > 5 for row in rows)
        assert 0 < rows[0]["entropy"] <= np.log(2)
    else:  # 200 steps an episode, in step with each other: they end in the iteration of steps 192 to 255
        assert [row["episode_length"] for row in rows] == [None, None, None, 200]
        assert -2000 < rows[3]["env_return"] < -200


def test_the_policy_acts_as_the_model(trained):
    settings, _, _, model, vec_normalize = trained
    policy = import_sb3(model, settings.env_id, settings.env)
    assert_same_actions(policy, model, observations(settings.env_id), vec_normalize)
    assert (policy.env_id, policy.config.hidden) == (settings.env_id, (16, 8))


def test_pretrain_gives_a_policy_that_can_be_saved(tmp_path):
    settings = config("Pendulum-v1", env={"g": 5.0}, total_steps=256)
    policy = pretrain_sb3(settings, new_run(tmp_path, settings))
    policy.save(tmp_path / "policy.npz")
    again = load_policy(tmp_path / "policy.npz")
    obs = observations("Pendulum-v1")
    np.testing.assert_array_equal(again.act(obs, None), policy.act(obs, None))
    assert again.env == {"g": 5.0}
    assert again.obs_norm.count > 256


def test_the_same_seed_gives_the_same_policy(tmp_path):
    settings = config("Pendulum-v1", total_steps=256)
    one, two = (pretrain_sb3(settings, new_run(tmp_path / name, settings)) for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_every_hyperparameter_arrives():
    ppo = PPOConfig(
        num_envs=3, num_steps=20, minibatch_size=30, epochs=7, lr=1e-3, lr_schedule="linear", gamma=0.9, gae_lambda=0.8,
        clip=0.3, clip_schedule="linear", target_kl=0.02, value_coef=0.7, entropy_coef=0.01, max_grad_norm=0.6,
        normalize_advantage=False,
    )  # fmt: skip
    model = make_sb3(
        config("Pendulum-v1", ppo=ppo, seed=5, env={"g": 3.0}, net=NetConfig((5, 4, 3), 0.25, activation="relu"))
    )
    names = {
        "n_envs": 3, "n_steps": 20, "batch_size": 30, "n_epochs": 7, "gamma": 0.9, "gae_lambda": 0.8, "vf_coef": 0.7,
        "ent_coef": 0.01, "max_grad_norm": 0.6, "target_kl": 0.02, "normalize_advantage": False, "seed": 5,
    }  # fmt: skip
    assert {name: getattr(model, name) for name in names} == names
    assert [model.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0]
    assert [model.clip_range(left) for left in (1.0, 0.5, 0.0)] == [0.3, 0.15, 0]
    assert model.policy.net_arch == {"pi": [5, 4, 3], "vf": [5, 4, 3]}
    assert (model.policy.log_std == 0.25).all() and model.policy.activation_fn is torch.nn.ReLU
    assert model.get_vec_normalize_env().gamma == 0.9
    assert model.env.get_attr("g") == [3.0] * 3

    constant = replace(ppo, lr_schedule="constant", clip_schedule="constant")
    model = make_sb3(config("Pendulum-v1", ppo=constant, normalize_obs=False, normalize_reward=False))
    assert (model.lr_schedule(0.0), model.clip_range(0.0)) == (1e-3, 0.3)
    assert model.get_vec_normalize_env() is None


@pytest.mark.parametrize("normalize_obs, normalize_reward", [(True, False), (False, True), (False, False)])
def test_normalisation_is_as_asked(normalize_obs, normalize_reward, tmp_path):
    settings = config("Pendulum-v1", total_steps=256, normalize_obs=normalize_obs, normalize_reward=normalize_reward)
    model = train_sb3(settings, new_run(tmp_path, settings))
    policy, vec_normalize = import_sb3(model, "Pendulum-v1"), model.get_vec_normalize_env()
    assert (policy.obs_norm.count > 0) == normalize_obs
    if vec_normalize:
        assert (vec_normalize.norm_obs, vec_normalize.norm_reward) == (normalize_obs, normalize_reward)
    assert_same_actions(policy, model, observations("Pendulum-v1"), vec_normalize)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ppo": replace(SMALL, step_control="kl-penalty")}, "kl-penalty"),
        ({"ppo": replace(SMALL, lr_schedule="adaptive")}, "adaptive"),
        ({"ppo": replace(SMALL, recompute_advantages=True)}, "recompute"),
        ({"net": NetConfig((8,), shared=(4,))}, "shares no layers"),
        ({"backend": "batched"}, "batched"),
        ({"env_id": "Pendulumm-v1"}, "did you mean Pendulum-v1"),
        ({"env": {"gravity": 1.0}}, "gravity"),
    ],
)
def test_what_sb3_lacks_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        make_sb3(config("Pendulum-v1", **change) if "env_id" not in change else config(**change))


def test_it_ends_on_nan(tmp_path, registered):
    settings = config("rlhf-test/Nan-v0", normalize_reward=False)
    with pytest.raises(NonFiniteError, match="reward is not finite: nan in environment 0 at step 10"):
        pretrain_sb3(settings, new_run(tmp_path, settings))


def test_flat_observations_of_any_shape(tmp_path, registered):
    """SB3 would take the (3, 4, 3) uint8 array for an image: turn it, and divide by 255."""
    settings = config("rlhf-test/Image-v0", total_steps=256)
    model = train_sb3(settings, new_run(tmp_path, settings))
    policy = import_sb3(model, settings.env_id)
    assert policy.spaces.obs_shape == (3, 4, 3)
    obs = np.random.default_rng(0).integers(0, 255, (200, 36)).astype(np.float32)
    assert_same_actions(policy, model, obs, model.get_vec_normalize_env())


class Square(gymnasium.Env):
    """Random observations and a reward; episodes of 50 steps."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, image=False):
        self.observation_space = (
            gymnasium.spaces.Box(0, 255, (3, 4, 3), np.uint8) if image else gymnasium.spaces.Box(-1, 1, (2,))
        )
        self.nan = not image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        reward = float("nan") if self.nan and self.steps > 10 else -float(action[0] ** 2)
        return self.observation_space.sample(), reward, False, self.steps == 50, {}


@pytest.fixture
def registered():
    names = {"rlhf-test/Nan-v0": {}, "rlhf-test/Image-v0": {"image": True}}
    for name, kwargs in names.items():
        gymnasium.register(name, Square, kwargs=kwargs, disable_env_checker=True)
    yield
    for name in names:
        del gymnasium.registry[name]


def test_a_signal_saves_the_policy_and_stops(tmp_path):
    settings = config("Pendulum-v1", total_steps=10**9)
    run = new_run(tmp_path, settings)

    def interrupt(row):
        if row["iteration"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        pretrain_sb3(settings, run, interrupt)
    assert stopped.value.exit_code == 143
    assert load_policy(run.path / "policy.npz").env_id == "Pendulum-v1"
    assert [row["iteration"] for row in run.metrics()] == [0, 1]


def test_a_signal_after_the_last_step_changes_nothing(tmp_path):
    settings = config("Pendulum-v1", total_steps=256)
    policy = pretrain_sb3(settings, new_run(tmp_path, settings), lambda row: os.kill(os.getpid(), signal.SIGINT))
    assert policy.env_id == "Pendulum-v1"


# -- import


def test_an_imported_policy_can_be_trained_on(trained):
    settings, _, _, model, _ = trained
    policy = import_sb3(model, settings.env_id)
    assert all(parameter.requires_grad for parameter in policy.parameters())
    envs = start_envs(settings.env_id, 4, seed=0)
    rollout = collect(envs, policy, 64, np.random.default_rng(0))
    before = policy.frozen()
    PPO(policy, settings.ppo).update(rollout, np.random.default_rng(0), 0.0)
    assert all(not torch.equal(a, b) for a, b in zip(policy.parameters(), before.parameters(), strict=True))


def test_the_malicious_pickle_works(saved, tmp_path):
    """Or the tests below would prove nothing: SB3 itself runs it."""
    path, data, evil = saved
    data["policy_kwargs"] = {":type:": "dict", ":serialized:": base64.b64encode(evil).decode()}
    rewritten(path, tmp_path / "evil.zip", data=json.dumps(data))
    with pytest.raises((TypeError, AttributeError)):
        SB3.load(tmp_path / "evil.zip", device="cpu")
    assert (tmp_path / "ran").exists()


# -- export


@pytest.mark.parametrize("kind", ["discrete", "multi-discrete", "multi-binary"])
def test_choices_that_sb3_does_not_know_are_refused(kind):
    with pytest.raises(UserError, match="--learner ppo"):
        make_sb3(config("Match-v0", env={"kind": kind}))
