"""Our PPO is Stable-Baselines3's PPO: on the same arrays, weights and minibatch order it does the same."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import PPO as SB3
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.data import Rollout
from rlhf_control.interop.policies import find_policy
from rlhf_control.interop.sb3_baseline import make_sb3
from rlhf_control.interop.sb3_policies import _names, import_sb3
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.batch import minibatches
from rlhf_control.rl.ppo import PPO, ppo_loss
from rlhf_control.rl.returns import gae
from tests.interop.shown_env import Shown

TASKS = [  # both end early and are cut off within a rollout of 32 steps
    ("CartPole-v1", {"max_episode_steps": 15}),
    ("InvertedPendulum-v5", {"max_episode_steps": 7}),
]
T, N = 32, 4
CONFIG = PPOConfig(
    num_envs=N, num_steps=T, minibatch_size=32, epochs=4, lr=3e-3, lr_schedule="constant", entropy_coef=0.02
)


class Recorder(BaseCallback):
    """Keeps what SB3's collect_rollouts throws away: raw rewards, both kinds of end, the true successors."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def _on_step(self):
        infos, done = self.locals["infos"], self.locals["dones"]
        truncated = done & np.array([info["TimeLimit.truncated"] for info in infos])
        next_obs = self.locals["new_obs"].copy()
        for i in np.flatnonzero(done):
            next_obs[i] = infos[i]["terminal_observation"]
        reward = self.locals["rewards"].copy()  # SB3 adds gamma * V to it in place, later in this step
        self.steps.append((next_obs, reward, done & ~truncated, truncated))
        return True


def collected(task, config):
    """(SB3's model with a rollout of its own in the buffer, our learner with its weights, the same rollout)."""
    env_id, env = task
    net = NetConfig((16, 8))
    model = make_sb3(PretrainConfig(env_id, env=env, net=net, ppo=config, normalize_obs=False, normalize_reward=False))
    _, recorder = model._setup_learn(10**6, Recorder())
    with torch.no_grad():  # away from the start, where all actions are alike
        for parameter in model.policy.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.collect_rollouts(model.env, recorder, model.rollout_buffer, T)
    model.env.close()
    next_obs, reward, terminated, truncated = (np.stack(x) for x in zip(*recorder.steps, strict=True))
    buffer = model.rollout_buffer
    action = buffer.actions if isinstance(model.action_space, Box) else buffer.actions.astype(np.int64)
    obs, next_obs = buffer.observations.astype(np.float32), next_obs.astype(np.float32)
    rollout = Rollout.of(
        obs=obs, action=action, executed=action, next_obs=next_obs, env_reward=reward, reward=reward,
        terminated=terminated, truncated=truncated,
    )  # fmt: skip
    return model, PPO(import_sb3(model, env_id, env), config), rollout


class SameOrder:
    """Gives SB3's RolloutBuffer (whose rows go environment by environment) and our update (whose rows go step by
    step) the same minibatches."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def theirs(self, rows):
        return self.rng.permutation(rows)

    def permutation(self, rows):
        env, step = np.divmod(self.theirs(rows), T)
        return step * N + env


def train(model, monkeypatch):
    """SB3's update; returns the number of its gradient steps."""
    order, steps = SameOrder(), []
    step = model.policy.optimizer.step
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "permutation", order.theirs)
        patch.setattr(model.policy.optimizer, "step", lambda: (steps.append(1), step()))
        model.train()
    return len(steps)


def pairs(model, policy):
    """(name, SB3's parameter, ours)."""
    ours = dict(policy.named_parameters())
    names = _names(len(policy.config.hidden))
    theirs = dict(model.policy.named_parameters())
    assert {names[name] for name in theirs} == set(ours)
    return [(name, parameter, ours[names[name]]) for name, parameter in theirs.items()]


def assert_same_parameters(model, policy):
    for name, theirs, ours in pairs(model, policy):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


# -- advantages


@pytest.mark.parametrize("seed", range(10))
def test_gae_on_random_arrays(seed):
    rng = np.random.default_rng(seed)
    gamma, lam = rng.uniform(0.5, 1, 2)
    reward, value, final_value = rng.normal(size=(3, T, N)).astype(np.float32)
    terminated, truncated = rng.random((2, T, N)) < 0.25  # at times both: then nothing comes after
    done = terminated | truncated
    assert (terminated & truncated).any() and (truncated & ~terminated).any()
    next_value = np.where(done, final_value, np.concatenate([value[1:], final_value[-1:]]))
    advantage, returns = gae(reward, value, next_value, terminated, truncated, gamma, lam)

    space = Box(-1, 1, (1,))
    buffer = RolloutBuffer(T, space, space, "cpu", lam, gamma, N)
    buffer.values = value
    buffer.rewards = reward + gamma * next_value * (truncated & ~terminated)  # as collect_rollouts does
    buffer.episode_starts[1:] = done[:-1]
    buffer.compute_returns_and_advantage(torch.from_numpy(next_value[-1]), done[-1])
    np.testing.assert_allclose(advantage, buffer.advantages, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(returns, buffer.returns, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_what_an_update_reads_is_what_sb3_collected(task):
    model, learner, rollout = collected(task, CONFIG)
    assert rollout.terminated.any() and rollout.truncated.any()
    batch, buffer = learner.prepare(rollout), model.rollout_buffer
    for ours, theirs in (
        (batch.advantage, buffer.advantages),
        (batch.returns, buffer.returns),
        (batch.old_log_prob, buffer.log_probs),
    ):
        np.testing.assert_allclose(ours.reshape(T, N), theirs, rtol=1e-5, atol=1e-5)


# -- the loss and the update


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("normalize_advantage", [True, False])
def test_gradient_of_one_minibatch(task, normalize_advantage, monkeypatch):
    """With the policy moved away from the one that collected, so that ratios differ from 1 and some are clipped."""
    config = replace(
        CONFIG, minibatch_size=T * N, epochs=1, max_grad_norm=1e9, normalize_advantage=normalize_advantage, clip=0.1
    )
    model, learner, rollout = collected(task, config)
    batch = learner.prepare(rollout)
    with torch.no_grad():
        for _, theirs, ours in pairs(model, learner.policy):
            theirs += 0.05 * torch.randn_like(theirs)
            ours.copy_(theirs)
    loss, metrics = ppo_loss(learner.policy, batch, config, config.clip, 0.0)
    loss.backward()
    assert 0.05 < metrics["clip_fraction"] < 0.95

    assert train(model, monkeypatch) == 1  # leaves its gradients behind
    for name, theirs, ours in pairs(model, learner.policy):
        assert theirs.grad.abs().max() > 1e-4, name
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
    logged = model.logger.name_to_value
    for ours, theirs in (
        (loss, "loss"),
        (metrics["policy_loss"], "policy_gradient_loss"),
        (metrics["value_loss"], "value_loss"),
        (metrics["approx_kl"], "approx_kl"),
        (metrics["clip_fraction"], "clip_fraction"),
        (-metrics["entropy"], "entropy_loss"),
    ):
        assert ours.item() == pytest.approx(logged[f"train/{theirs}"], rel=1e-5, abs=1e-6), theirs


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("minibatch_size", [32, 60])  # 60 leaves 8 rows for the last minibatch
@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
def test_parameters_after_a_whole_update(task, minibatch_size, gradients, monkeypatch):
    config = replace(CONFIG, max_grad_norm=0.1, gradients=gradients)
    model, learner, rollout = collected(task, config)
    model.batch_size, learner.config = minibatch_size, replace(config, minibatch_size=minibatch_size)
    before = [ours.detach().clone() for _, _, ours in pairs(model, learner.policy)]
    metrics = learner.update(rollout, SameOrder(), progress=0.0)
    norms = watch_gradient_norms(monkeypatch)
    assert metrics["gradient_steps"] == train(model, monkeypatch) == 4 * -(-T * N // minibatch_size)
    assert max(norms) > 0.1  # the clip of the gradient is at work
    moved = [(ours - old).abs().max() for old, (_, _, ours) in zip(before, pairs(model, learner.policy), strict=True)]
    assert min(moved) > 1e-3
    assert_same_parameters(model, learner.policy)


def watch_gradient_norms(monkeypatch):
    norms, clip = [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: norms.append(clip(*a)))
    return norms


@pytest.mark.parametrize("task", TASKS)
def test_schedules_at_the_same_progress(task, monkeypatch):
    config = replace(CONFIG, lr_schedule="linear", clip_schedule="linear")
    model, learner, rollout = collected(task, config)
    learner.update(rollout, SameOrder(), progress=0.75)
    model._current_progress_remaining = 0.25
    train(model, monkeypatch)
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(config.lr / 4)
    assert model.logger.name_to_value["train/clip_range"] == pytest.approx(config.clip / 4)
    assert_same_parameters(model, learner.policy)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("target_kl", [0.001, 0.003, 0.009])
def test_target_kl_stops_before_the_same_minibatch(task, target_kl, monkeypatch):
    config = replace(CONFIG, target_kl=target_kl, lr=1e-2)
    model, learner, rollout = collected(task, config)
    steps = learner.update(rollout, SameOrder(), progress=0.0)["gradient_steps"]
    assert 0 < steps < 16
    assert train(model, monkeypatch) == steps
    assert_same_parameters(model, learner.policy)


@pytest.mark.parametrize("task", TASKS)
def test_the_first_minibatch_has_ratio_one(task):
    _, learner, rollout = collected(task, CONFIG)
    batch = learner.prepare(rollout)
    rows = minibatches(len(batch), 32, SameOrder())[0]
    metrics = learner.optimizer.gradient(batch[torch.from_numpy(rows)], CONFIG.clip, 0.0)
    assert metrics["approx_kl"] == 0
    assert metrics["clip_fraction"] == 0


def test_an_update_of_the_cnn_of_nature(tmp_path, monkeypatch):
    """Pictures 40 x 44 x 3 at random, seen by the network that Stable-Baselines3 has for Atari, which ours reads from
    its file; each half of our minibatches has a thread of its own, and pixels are not divided, but weights. Fused Adam
    (torch 2.13) would pair gradients that are channels last with the wrong weights."""
    config = replace(CONFIG, minibatch_size=64, epochs=2, lr=1e-4, clip=0.1)
    torch.manual_seed(0)
    model = SB3(
        "CnnPolicy", DummyVecEnv([lambda: Shown("picture")] * N), n_steps=T, batch_size=64, n_epochs=2, seed=0,
        learning_rate=config.lr, clip_range=config.clip, ent_coef=config.entropy_coef, device="cpu",
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.02 * torch.randn_like(parameter)

    def as_ours():
        model.save(tmp_path / "m.zip")
        return find_policy(tmp_path / "m.zip", "Shown-v0", env={"kind": "picture"})

    _, recorder = model._setup_learn(10**6, Recorder())
    learner, before = PPO(as_ours(), config), as_ours()
    model.collect_rollouts(model.env, recorder, model.rollout_buffer, T)
    next_obs, reward, terminated, truncated = (np.stack(x) for x in zip(*recorder.steps, strict=True))
    obs, next_obs = (np.moveaxis(x, 2, -1).reshape(T, N, -1) for x in (model.rollout_buffer.observations, next_obs))
    action = model.rollout_buffer.actions.astype(np.int64)
    rollout = Rollout.of(
        obs=obs.astype(np.uint8), action=action, executed=action, next_obs=next_obs, env_reward=reward, reward=reward,
        terminated=terminated, truncated=truncated,
    )  # fmt: skip
    metrics = learner.update(rollout, SameOrder(), progress=0.0)
    assert metrics["gradient_steps"] == train(model, monkeypatch) == 4
    with torch.no_grad():
        for (name, start), theirs, ours in zip(
            before.named_parameters(), as_ours().parameters(), learner.policy.parameters(), strict=True
        ):
            moved = (theirs - start).norm()
            assert moved > 0 and (ours - theirs).norm() < 1e-3 * moved, name


# -- constants and initial weights


@pytest.mark.parametrize("ours", [PPOConfig(), preset("HalfCheetah-v5", "sb3").ppo], ids=["default", "sb3"])
def test_default_hyperparameters_are_sb3s(ours):
    """Where ours differ on purpose: num_envs * num_steps, and, but for the preset, a linear learning rate."""
    theirs = {name: p.default for name, p in inspect.signature(SB3.__init__).parameters.items()}
    assert ours.lr == theirs["learning_rate"]
    assert ours.num_envs * ours.num_steps == theirs["n_steps"]
    assert ours.minibatch_size == theirs["batch_size"]
    assert ours.epochs == theirs["n_epochs"]
    assert ours.clip == theirs["clip_range"]
    assert ours.entropy_coef == theirs["ent_coef"]
    assert ours.value_coef == theirs["vf_coef"]
    for name in ("gamma", "gae_lambda", "normalize_advantage", "max_grad_norm", "target_kl"):
        assert getattr(ours, name) == theirs[name], name
    assert theirs["clip_range_vf"] is None


@pytest.mark.parametrize("task", TASKS)
def test_optimiser_constants(task):
    model, learner, _ = collected(task, replace(CONFIG, gradients="autograd"))
    theirs, ours = (o.param_groups[0] for o in (model.policy.optimizer, learner.optimizer.optimizer))
    for name in ("betas", "eps", "weight_decay", "amsgrad", "maximize"):
        assert ours[name] == theirs[name], name
    assert ours["eps"] == 1e-5
    assert len(ours["params"]) == len(theirs["params"])


@pytest.mark.parametrize("hidden", [(64, 64), (32,), ()])
def test_initial_weights_have_sb3s_gains(hidden):
    """Every matrix is orthogonal, so its singular values all equal its gain: sqrt 2, 0.01, 1."""
    net = NetConfig(hidden, log_std_init=0.0)
    model = make_sb3(PretrainConfig("Pendulum-v1", net=net))
    policy = Policy(import_sb3(model, "Pendulum-v1").spaces, net, 0, "Pendulum-v1", {})
    model.env.close()
    for name, theirs, ours in pairs(model, policy):
        if ours.ndim == 2:
            torch.testing.assert_close(*map(torch.linalg.svdvals, (ours, theirs)), msg=name)
            gain = {"action_net.weight": 0.01, "value_net.weight": 1.0}.get(name, 2**0.5)
            assert torch.linalg.svdvals(ours).allclose(torch.tensor(gain)), name
        else:  # biases, and log_std_init 0 as in SB3's default
            assert (ours == theirs).all() and (ours == 0).all(), name
