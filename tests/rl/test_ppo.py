import copy
import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.batch import Batch, minibatches
from rlhf_control.rl.ppo import PPO, AutogradUpdate, ppo_loss
from rlhf_control.rl.returns import gae
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces
from tests.conftest import TINY_PPO, random_rollout


def test_the_loss_by_hand(cheetah_policy: Policy) -> None:
    """Two rows whose ratios are 1.5 and 0.5, advantages +1 and -1: both are clipped to 1 +- 0.2."""
    features = torch.zeros(2, 17)
    with torch.no_grad():
        new = cheetah_policy.distribution(features)
        value = cheetah_policy.value(features)
    old_log_prob = new.log_prob(new.mean) - torch.log(torch.tensor([1.5, 0.5]))
    batch = Batch(features, new.mean, torch.tensor([1.0, -1.0]), value + torch.tensor([2.0, 0.0]), new, old_log_prob)
    config = PPOConfig(normalize_advantage=False, entropy_coef=0.1)
    loss, metrics = ppo_loss(cheetah_policy, batch, config, clip=0.2, kl_coef=1.0)
    assert metrics["policy_loss"].item() == pytest.approx(-(1.2 - 0.8) / 2, abs=1e-5)
    assert metrics["value_loss"].item() == pytest.approx(2.0, abs=1e-5)
    entropy = 6 * (0.5 * math.log(2 * math.pi * math.e) - 0.5)  # log_std is -0.5
    assert metrics["entropy"].item() == pytest.approx(entropy, abs=1e-4)
    assert loss.item() == pytest.approx(-0.2 + 0.5 * 2 - 0.1 * entropy, abs=1e-4)
    assert metrics["clip_fraction"].item() == 1
    assert metrics["approx_kl"].item() == pytest.approx((0.5 - math.log(1.5) - 0.5 - math.log(0.5)) / 2, abs=1e-5)


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
@pytest.mark.parametrize("control", ["clip", "kl-penalty"])
def test_on_the_first_minibatch_the_ratio_is_one_exactly(cheetah_policy: Policy, control: str, gradients: str) -> None:
    learner = PPO(cheetah_policy, PPOConfig(step_control=control, gradients=gradients))  # type: ignore[arg-type]
    batch = learner.prepare(random_rollout(np.random.default_rng(0), T=64, N=4))
    rows = minibatches(len(batch), 64, np.random.default_rng(0))[0]
    metrics = learner.optimizer.gradient(batch[torch.from_numpy(rows)], 0.2, 1.0)
    assert metrics["approx_kl"] == 0 and metrics["clip_fraction"] == 0


def test_advantages_are_recomputed_by_the_critic_as_it_then_is(cheetah_policy: Policy) -> None:
    """One epoch knows no difference; with two, the second sees other advantages, but the same old policy."""
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    losses = []
    for epochs in (1, 2):
        for recompute in (False, True):
            config = PPOConfig(minibatch_size=160, epochs=epochs, lr=1e-2, recompute_advantages=recompute)
            learner = PPO(copy.deepcopy(cheetah_policy), config)
            seen = []
            steps = learner.optimizer.steps
            learner.optimizer.steps = lambda batch, *a, s=steps, b=seen: b.append(batch) or s(batch, *a)  # type: ignore
            losses.append(learner.update(rollout, np.random.default_rng(0), 0.0)["value_loss"])
            if epochs == 2:
                first, second = seen
                assert torch.equal(first.old_log_prob, second.old_log_prob)
                assert torch.equal(first.advantage, second.advantage) is not recompute
                if recompute:
                    old_critic = PPO(copy.deepcopy(cheetah_policy), config).advantages(rollout)
                    assert torch.equal(first.advantage, old_critic[0])
    assert losses[0] == losses[1] and losses[2] != losses[3]


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_successors_are_valued_as_what_they_are(env_id: str, gradients: Literal["compiled", "autograd"]) -> None:
    """An episode's last one too, which is not where the next step begins; to the bit in compiled code."""
    envs = start_envs(env_id, 3, seed=0)
    learner = PPO(Policy(envs.spaces, NetConfig(), 0, env_id, {}), PPOConfig(gradients=gradients))
    rollout = collect(envs, learner, 60, np.random.default_rng(0))
    assert rollout.done.sum() > 3 and not rollout.done[-1].all()
    config, value, next_value = learner.config, learner.values(rollout.obs), learner.values(rollout.next_obs)
    ends = rollout.terminated, rollout.truncated
    expected, _ = gae(rollout.reward, value, next_value, *ends, config.gamma, config.gae_lambda)
    tolerance = 0 if gradients == "compiled" else 1e-5
    np.testing.assert_allclose(learner.advantages(rollout)[0], expected.ravel(), rtol=tolerance, atol=tolerance)


def test_the_old_policy_stays_while_the_new_one_moves(cheetah_policy: Policy) -> None:
    learner = PPO(cheetah_policy, TINY_PPO)
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    metrics = learner.update(rollout, np.random.default_rng(0), 0.0)
    assert metrics["kl"] > 0 and metrics["gradient_steps"] == 2 * 5


def test_the_step_is_controlled_by_early_stopping(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    steps = []
    for target in (None, 0.01, 1e-9):
        learner = PPO(copy.deepcopy(cheetah_policy), PPOConfig(minibatch_size=32, epochs=10, lr=3e-3, target_kl=target))
        steps.append(learner.update(rollout, np.random.default_rng(0), 0.0)["gradient_steps"])
    assert steps[0] == 50 and 1 < steps[1] < 50 and steps[2] == 1  # the first step has KL 0, so it is taken


def test_the_kl_penalty_adapts_its_coefficient_and_holds_the_kl(cheetah_policy: Policy) -> None:
    config = PPOConfig(minibatch_size=32, epochs=10, lr=3e-3, step_control="kl-penalty", target_kl=0.01)
    learner = PPO(cheetah_policy, config)
    kls, coefficients = [], []
    for i in range(12):
        rollout = random_rollout(np.random.default_rng(i), T=40, N=4)
        kls.append(learner.update(rollout, np.random.default_rng(i), 0.0)["kl"])
        coefficients.append(learner.kl_coef)
    for before, after, kl in zip([1.0, *coefficients], coefficients, kls, strict=False):
        assert after == (before * 2 if kl > 0.015 else before / 2 if kl < 0.01 / 1.5 else before)
    assert np.mean(kls[-4:]) < 0.3 * kls[0]


def test_the_learning_rate_adapts_to_hold_the_kl(cheetah_policy: Policy) -> None:
    config = PPOConfig(minibatch_size=32, epochs=10, lr=5e-3, lr_schedule="adaptive", target_kl=0.01)
    learner = PPO(cheetah_policy, config)
    kls, rates = [], [5e-3]
    for i in range(12):
        rollout = random_rollout(np.random.default_rng(i), T=40, N=4)
        metrics = learner.update(rollout, np.random.default_rng(i), 0.5)
        assert metrics["lr"] == rates[-1] and metrics["gradient_steps"] == 50
        kls.append(metrics["kl"])
        rates.append(learner.lr)
    for before, after, kl in zip(rates, rates[1:], kls, strict=False):
        assert after == pytest.approx(before / 1.5 if kl > 0.02 else before * 1.5 if kl < 0.005 else before)
    assert kls[0] > 0.02 and 0.003 < np.mean(kls[-4:]) < 0.03


def test_schedules(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    learner = PPO(cheetah_policy, PPOConfig(minibatch_size=32, epochs=1, lr=1e-3))
    assert learner.update(rollout, np.random.default_rng(0), 0.25)["lr"] == pytest.approx(7.5e-4)
    constant = PPO(cheetah_policy, PPOConfig(minibatch_size=32, epochs=1, lr=1e-3, lr_schedule="constant"))
    assert constant.update(rollout, np.random.default_rng(0), 0.25)["lr"] == 1e-3


def test_value_epochs_move_the_critic_alone(cheetah_policy: Policy) -> None:
    learner = PPO(cheetah_policy, TINY_PPO)
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    before = {k: v.clone() for k, v in cheetah_policy.state_dict().items()}
    learner.fit_value(rollout, 30, np.random.default_rng(0))
    changed = {k for k, v in cheetah_policy.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {k for k in before if k.startswith("critic")}


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
def test_a_rescaled_critic_knows_another_reward(
    cheetah_policy: Policy, gradients: Literal["compiled", "autograd"]
) -> None:
    """Where the reward is one of which its values are right (r = V - gamma V'), times 3, less 2: without an end that
    makes 3 V - 2 / (1 - gamma), over whatever number of rollouts, and nothing else moves."""
    learner = PPO(cheetah_policy, replace(TINY_PPO, gradients=gradients, gamma=0.9))
    rollouts = []
    for i in range(3):
        rollout = random_rollout(np.random.default_rng(i), T=30, N=4)
        nobody = np.zeros_like(rollout.terminated)
        rollout = replace(rollout, terminated=nobody, truncated=rollout.done)
        value, following = learner.values(rollout.obs), learner.values(rollout.next_obs)
        rollouts.append(rollout.with_reward(3 * (value - 0.9 * following) - 2))
    before = {k: v.clone() for k, v in cheetah_policy.state_dict().items()}
    value = learner.values(rollouts[0].obs)
    learner.rescale_value(rollouts)
    np.testing.assert_allclose(learner.values(rollouts[0].obs), 3 * value - 20, rtol=1e-3, atol=1e-3)
    changed = {k for k, v in cheetah_policy.state_dict().items() if not torch.equal(v, before[k])}
    last = f"critic.{len(cheetah_policy.critic) - 1}"
    assert changed == {f"{last}.weight", f"{last}.bias"}


@pytest.mark.parametrize(
    "env_id, net",
    [
        ("Pendulum-v1", NetConfig((8,), activation="relu", critic_hidden=(5, 4))),
        ("Pendulum-v1", NetConfig((8,), shared=(6,), state_dependent_std=True)),
        ("CartPole-v1", NetConfig((8,), shared=(6,), activation="elu", state_dependent_std=True)),
    ],
)
def test_policies_of_other_networks_learn_and_leave_the_actor_to_the_update(env_id: str, net: NetConfig) -> None:
    envs = start_envs(env_id, 4, seed=0)
    policy = Policy(envs.spaces, net, 0, env_id, {})
    learner, twin = PPO(policy, TINY_PPO), PPO(policy.frozen(), TINY_PPO)
    assert isinstance(learner.optimizer, AutogradUpdate)  # as TINY_PPO says, compiled, where that is known
    rollout = collect(envs, learner, 40, np.random.default_rng(0))
    start = policy.frozen()
    learner.fit_value(rollout, 2, np.random.default_rng(0))
    assert policy.acts_as(start) and not torch.equal(policy.critic[0].weight, start.critic[0].weight)
    metrics = learner.update(rollout, np.random.default_rng(0), 0.0)
    assert metrics["kl"] > 0 and not policy.acts_as(start)
    twin.load_state(learner.state())
    assert twin.policy.acts_as(policy)
    again = collect(envs, learner, 40, np.random.default_rng(1))
    for each in (learner, twin):
        each.policy.requires_grad_(True)
        each.update(again, np.random.default_rng(1), 0.5)
    assert twin.policy.acts_as(policy)


@pytest.mark.parametrize("control", ["clip", "kl-penalty"])
def test_state_round_trip_continues_bit_equal(cheetah_policy: Policy, control: str) -> None:
    config = PPOConfig(minibatch_size=32, epochs=2, step_control=control)  # type: ignore[arg-type]
    rollout = random_rollout(np.random.default_rng(0), T=40, N=4)
    learner = PPO(cheetah_policy, config)
    other = PPO(copy.deepcopy(cheetah_policy), config)
    for i in range(3):
        learner.fit_value(rollout, 1, np.random.default_rng(i))
        learner.update(rollout, np.random.default_rng(i), 0.1)
    other.load_state(learner.state())
    assert other.lr == learner.lr
    assert learner.update(rollout, np.random.default_rng(9), 0.2) == other.update(
        rollout, np.random.default_rng(9), 0.2
    )
    for name, value in learner.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[name]), name


def seeing(**options: Any) -> tuple[AutogradUpdate, Batch]:
    """Of a policy of small pictures, and a rollout that it did not collect."""
    spaces = Spaces.of(Box(0, 255, (10, 10, 2), np.uint8), Discrete(3))
    net = NetConfig((8,), picture_features=16, **options)
    learner = PPO(Policy(spaces, net, 0, "X", {}), PPOConfig(num_envs=2, num_steps=35, minibatch_size=70))
    rng = np.random.default_rng(0)
    features = learner.policy.features(rng.integers(256, size=(70, 200)).astype(np.uint8))
    action, (advantage, returns) = rng.integers(3, size=(70, 1)), rng.standard_normal((2, 70), np.float32)
    with torch.no_grad():
        old = learner.policy.distribution(features).detached()
    log_prob = old.log_prob(torch.from_numpy(action)) + 0.3 * torch.from_numpy(rng.standard_normal(70, np.float32))
    assert isinstance(learner.optimizer, AutogradUpdate)
    columns = map(torch.from_numpy, (action, advantage, returns))
    return learner.optimizer, Batch(features, *columns, old, log_prob)


@pytest.mark.parametrize("separate", [False, True])
def test_both_halves_of_a_minibatch_of_pictures_make_its_gradient_on_any_number_of_cores(
    separate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, batch = seeing(separate_encoders=separate)
    metrics = update.gradient(batch, 0.2, 1.0)
    halves = [p.grad.clone() for p in update.policy.parameters() if p.grad is not None]
    monkeypatch.setattr("rlhf_control.compute.threads.available_cores", lambda: [0])
    assert update.gradient(batch, 0.2, 1.0) == metrics
    for parameter, grad in zip(update.policy.parameters(), halves, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, grad)
    update.optimizer.zero_grad()
    loss, whole = ppo_loss(update.policy, batch, update.config, 0.2, 1.0)
    loss.backward()
    assert metrics == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-4, abs=1e-6)
    for parameter, grad in zip(update.policy.parameters(), halves, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-6)


def test_what_actor_and_critic_see_alike_is_computed_once() -> None:
    update, batch = seeing()
    out, value = update.outputs_and_values(batch.features)
    torch.testing.assert_close(out, update.outputs(batch.features))
    torch.testing.assert_close(value, update.values(batch.features))


@pytest.mark.parametrize("separate", [False, True])
def test_steps_of_the_critic_of_pictures_lower_its_loss_and_leave_what_the_actor_sees(separate: bool) -> None:
    update, batch = seeing(separate_encoders=separate)
    before = {name: value.detach().clone() for name, value in update.policy.named_parameters()}
    error = (update.values(batch.features) - batch.returns).square().mean()
    update.value_steps(batch, [np.arange(70)] * 20, 1e-3)
    assert (update.values(batch.features) - batch.returns).square().mean() < 0.95 * error
    moved = {name for name, value in update.policy.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("critic")}
