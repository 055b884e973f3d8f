"""Proximal policy optimisation, from scratch (Schulman et al., arXiv 1707.06347). Knows nothing of preferences.

T time, N environments, B batch = T * N.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.compute.threads import side_by_side
from rlhf_control.config import PPOConfig
from rlhf_control.data import Array, Rollout, alone
from rlhf_control.errors import NonFiniteError
from rlhf_control.nets.distributions import Categorical, Gaussian
from rlhf_control.nets.encoders import FEW
from rlhf_control.nets.policy import Policy, together
from rlhf_control.rl.batch import Batch, minibatches
from rlhf_control.rl.compiled import CompiledUpdate, supports
from rlhf_control.rl.protocol import Update
from rlhf_control.rl.returns import equations_of_values, gae, line_in_values
from rlhf_control.spaces import Act

DEFAULT_TARGET_KL = 0.01  # of the variants that adapt to it
MIN_LR, MAX_LR = 1e-6, 1e-2  # of the adaptive schedule
LOSS_METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
KL_ROWS = 256  # of pictures, on which the KL of an update is measured


def ppo_loss(
    policy: Policy, batch: Batch, config: PPOConfig, clip: float, kl_coef: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss of one minibatch and what it is made of.

    clip: eq. 9 with the clipped surrogate of eq. 7. kl-penalty: eq. 8, with KL(new || old) in closed form.
    The value loss is the mean squared error without a further half, as in Stable-Baselines3.
    """
    new, value = policy.distribution_and_value(batch.features)
    log_ratio = new.log_prob(batch.action) - batch.old_log_prob
    ratio = log_ratio.exp()
    advantage = batch.advantage
    if config.normalize_advantage:
        advantage = normalised(advantage)
    if config.step_control == "clip":
        clipped = ratio.clamp(1 - clip, 1 + clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
    else:
        policy_loss = -(ratio * advantage).mean() + kl_coef * new.kl(batch.old).mean()
    value_loss = (value - batch.returns).square().mean()
    with torch.set_grad_enabled(config.entropy_coef != 0):  # of many tokens its gradient is half the work
        entropy = new.entropy().mean()
    loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    with torch.no_grad():
        approx_kl = (ratio - 1 - log_ratio).mean()  # http://joschu.net/blog/kl-approx.html, k3
        clip_fraction = ((ratio - 1).abs() > clip).float().mean()
    metrics = (policy_loss, value_loss, entropy, approx_kl, clip_fraction)
    return loss, {name: value.detach() for name, value in zip(LOSS_METRICS, metrics, strict=True)}


def normalised(advantage: Tensor) -> Tensor:
    """Returns advantages (B,) with mean 0 and standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


class AutogradUpdate:
    """Steps down `ppo_loss` by autograd and Adam: the reference that `CompiledUpdate` is held to."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.policy, self.config = policy, config
        self.optimizer = torch.optim.Adam(policy.parameters(), eps=1e-5, fused=True)

    def acting(self) -> Act:
        return self.policy.acting()

    def outputs(self, features: Tensor) -> Tensor:
        """Returns what the actor puts out, (B, A)."""
        return self.policy.outputs(features, gradients=False).cpu()

    def values(self, features: Tensor) -> Tensor:
        """Returns the critic's values, (...,)."""
        return self.policy.value(features, gradients=False).cpu()

    def outputs_and_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both. What actor and critic share of a network that sees is computed once."""
        policy = self.policy
        if policy.critic_encoder is not None or not policy.encoder.seen:
            return self.outputs(features), self.values(features)
        hidden = policy.trunk(policy.encoder.without_gradients(features))
        return policy.actor(hidden).cpu(), policy.critic(hidden)[..., 0].cpu()

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """Returns the log-probabilities (B,) of these actions."""
        return self.policy.head(out).log_prob(action)

    def steps(
        self, batch: Batch, order: Sequence[Array], lr: float, clip: float, kl_coef: float, max_kl: float
    ) -> list[dict[str, float]]:
        """Takes a step for each minibatch, given as rows of the batch. It stops before one whose approximate KL exceeds
        `max_kl`. Returns the metrics of the steps taken."""
        history: list[dict[str, float]] = []
        for rows in order:
            metrics = self.gradient(batch, clip, kl_coef, torch.from_numpy(rows))
            if metrics["approx_kl"] > max_kl:
                break
            self.apply(lr)
            history.append(metrics)
        return history

    def value_steps(self, batch: Batch, order: Sequence[Array], lr: float) -> None:
        """Steps the critic alone, down its part of the loss: what the actor reads too stays as it is."""
        policy, sees_alone = self.policy, self.policy.critic_encoder is not None
        read = batch.features  # by what is the critic's own
        if policy.encoder.seen and not sees_alone:
            with torch.no_grad():
                read = policy.trunk(policy.encoder.without_gradients(batch.features))
        for rows in map(torch.from_numpy, order):
            self.optimizer.zero_grad(set_to_none=True)
            value = policy.critic(read[rows])[..., 0] if read is not batch.features else policy.value(read[rows])
            error = value - batch.returns[rows].to(value.device)
            (self.config.value_coef * error.square().mean()).backward()
            for name, parameter in policy.named_parameters():
                parameter.grad = parameter.grad if name.startswith("critic") else None  # else Adam would move it
            self.apply(lr)

    def gradient(self, batch: Batch, clip: float, kl_coef: float, rows: Tensor | None = None) -> dict[str, float]:
        """Takes the gradient of the loss of one minibatch, these rows (B,) of the batch (None: all), and returns the
        loss's metrics. Of pictures, each half of the minibatch has a thread of its own."""
        rows = torch.arange(len(batch)) if rows is None else rows
        device = self.policy.encoder.device
        if self.policy.encoder.seen and len(rows) >= 2 * FEW and device.type == "cpu":
            return self._gradient_of_halves(batch, clip, kl_coef, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss, metrics = ppo_loss(self.policy, batch[rows].to(device), self.config, clip, kl_coef)
        loss.backward()
        return {name: value.item() for name, value in metrics.items()}

    def _gradient_of_halves(self, batch: Batch, clip: float, kl_coef: float, rows: Tensor) -> dict[str, float]:
        """Every term of the loss is a mean over the minibatch, whose advantages are normalised as a whole."""
        parameters, config = list(self.policy.parameters()), replace(self.config, normalize_advantage=False)
        advantage = batch.advantage[rows]
        if self.config.normalize_advantage:
            advantage = normalised(advantage)

        def of_half(which: slice) -> tuple[list[Tensor], list[Tensor]]:
            half = replace(batch[rows[which]], advantage=advantage[which])
            loss, metrics = ppo_loss(self.policy, half, config, clip, kl_coef)
            share = len(half) / len(rows)
            return list(torch.autograd.grad(share * loss, parameters)), [share * x for x in metrics.values()]

        middle = len(rows) // 2
        (first, ours), (second, theirs) = side_by_side(of_half, [slice(middle), slice(middle, None)])
        for parameter, a, b in zip(parameters, first, second, strict=True):
            # laid out in memory as the parameter is: torch's fused Adam takes it for granted, without a word, and
            # `torch.autograd.grad` leaves a convolution's as its pictures are, channels last
            parameter.grad = torch.add(a, b, out=torch.empty_like(parameter))
        return {name: (a + b).item() for name, a, b in zip(LOSS_METRICS, ours, theirs, strict=True)}

    def apply(self, lr: float) -> None:
        """Clips the gradient and takes Adam's step."""
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        moments = self.optimizer.state_dict()["state"]
        return {str(i): {k: v.cpu().numpy().copy() for k, v in entry.items()} for i, entry in moments.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        whole = self.optimizer.state_dict()
        whole["state"] = {int(i): {k: torch.tensor(v) for k, v in entry.items()} for i, entry in state.items()}
        self.optimizer.load_state_dict(whole)


class PPO:
    """Improves a policy by its rollouts: the project's `Learner`."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.policy, self.config = policy, config
        compiled = config.gradients == "compiled" and supports(policy)
        self.optimizer: Update = CompiledUpdate(policy, config) if compiled else AutogradUpdate(policy, config)
        self.kl_coef = 1.0  # of the KL-penalty variant; adapts
        self.lr = config.lr  # of the adaptive schedule

    def acting(self) -> Act:
        """Returns the function from raw observations to actions, by the policy as it now is, for `collect`."""
        return self.optimizer.acting()

    @torch.no_grad()
    def distribution(self, obs: Array) -> Gaussian | Categorical:
        """Returns the policy's distributions, as it now is, for raw observations (..., O)."""
        return self.policy.head(self.optimizer.outputs(self.policy.features(obs)))

    @torch.no_grad()
    def values(self, obs: Array) -> Array:
        """Returns the values (...,) of raw observations (..., O)."""
        return self.optimizer.values(self.policy.features(obs)).numpy()

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> Batch:
        """Computes values, advantages and the old policy's log-probabilities, of the present policy's rollout."""
        features = self.policy.encoder.arranged(self.policy.features(rollout.obs).flatten(0, 1))
        action = torch.from_numpy(rollout.action).flatten(0, 1)
        out, value = self.optimizer.outputs_and_values(features)
        old_log_prob = self.optimizer.log_prob(out, action)
        advantage, returns = self.advantages(rollout, value.numpy().reshape(rollout.reward.shape))
        return Batch(features, action, advantage, returns, self.policy.head(out).detached(), old_log_prob)

    def revalued(self, batch: Batch, rollout: Rollout) -> Batch:
        """Returns the batch of the same rollout, with what depends on the critic computed anew."""
        advantage, returns = self.advantages(rollout)
        return replace(batch, advantage=advantage, returns=returns)

    @torch.no_grad()
    def advantages(self, rollout: Rollout, value: Array | None = None) -> tuple[Tensor, Tensor]:
        """Returns (advantage, return), (T * N,) each, by the critic as it now is. `value` (T, N): if it is known."""
        value, next_value = self._values(rollout, value)
        both = gae(
            rollout.reward, value, next_value, rollout.terminated, rollout.truncated,
            self.config.gamma, self.config.gae_lambda,
        )  # fmt: skip
        advantage, returns = (torch.from_numpy(x.astype(np.float32).ravel()) for x in both)
        return advantage, returns

    def _values(self, rollout: Rollout, value: Array | None = None) -> tuple[Array, Array]:
        """Returns the values (T, N) of a rollout's observations, and of the true successors."""
        value = self.values(rollout.obs) if value is None else value
        next_value = np.concatenate([value[1:], value[:1]])
        next_value[alone(rollout.done)] = self.values(rollout.successors)
        return value, next_value

    def update(self, rollout: Rollout, rng: np.random.Generator, progress: float) -> dict[str, float]:
        """Takes some epochs of minibatch steps on one rollout. `progress` in [0, 1] moves the schedules.

        Stops before the step whose approximate KL exceeds 1.5 target_kl, as Stable-Baselines3 does.
        """
        config, batch = self.config, self.prepare(rollout)
        groups = together(self.policy, batch.features)
        lr, clip = self._scheduled(progress)
        history: list[dict[str, float]] = []
        for epoch in range(config.epochs):
            if config.recompute_advantages and epoch > 0:
                batch = self.revalued(batch, rollout)
            order = minibatches(len(batch), config.minibatch_size, rng, groups)
            taken = self.optimizer.steps(batch, order, lr, clip, self.kl_coef, self._max_kl())
            history += taken
            if len(taken) < len(order):
                break
        kl = self._measure_kl(batch)
        if not math.isfinite(kl) or not all(p.isfinite().all() for p in self.policy.parameters()):
            raise NonFiniteError("the update diverged: the policy's parameters are no longer finite; lower --ppo.lr")
        self._adapt(kl)
        means = {name: float(np.mean([m[name] for m in history])) for name in (history[0] if history else ())}
        explained = 1 - (batch.advantage.var() / (batch.returns.var() + 1e-8)).item()  # advantage = return - value
        return {**means, "kl": kl, "explained_variance": explained, "lr": lr, "gradient_steps": len(history)}

    @torch.no_grad()
    def rescale_value(self, rollouts: Sequence[Rollout]) -> None:
        """Brings the critic's last layer to the reward of these rollouts (T, N), as `line_in_values`: what it knows
        about states is kept, where steps of gradients over far-off values would wear it away (as PopArt keeps it, van
        Hasselt et al., arXiv 1602.07714)."""
        equations, result = np.zeros((2, 2)), np.zeros(2)
        values: list[Array] = []
        for rollout in rollouts:
            value, next_value = self._values(rollout)
            ends = rollout.terminated, rollout.truncated, self.config.gamma, self.config.gae_lambda
            more = equations_of_values(value, next_value, rollout.reward, *ends)
            equations, result, values = equations + more[0], result + more[1], [*values, value.ravel()]
        a, b = line_in_values(equations, result, np.concatenate(values))
        last = self.policy.critic[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(a)
        last.bias.mul_(a).add_(b)

    def fit_value(self, rollout: Rollout, epochs: int, rng: np.random.Generator, progress: float = 0.0) -> None:
        """Fits the critic alone, for when the reward has changed under it. The targets move with it."""
        lr, _ = self._scheduled(progress)
        batch = self.prepare(rollout)
        groups = together(self.policy, batch.features)
        for epoch in range(epochs):
            batch = self.revalued(batch, rollout) if epoch > 0 else batch
            self.optimizer.value_steps(batch, minibatches(len(batch), self.config.minibatch_size, rng, groups), lr)

    def _scheduled(self, progress: float) -> tuple[float, float]:
        """Returns the learning rate and the clip range."""
        config = self.config
        lr = self.lr * (1 - progress if config.lr_schedule == "linear" else 1)
        return lr, config.clip * (1 - progress if config.clip_schedule == "linear" else 1)

    def _max_kl(self) -> float:
        """Returns the approximate KL beyond which an update stops."""
        config = self.config
        aims = config.step_control == "kl-penalty" or config.lr_schedule == "adaptive"  # rather than stop
        return math.inf if config.target_kl is None or aims else 1.5 * config.target_kl

    @torch.no_grad()
    def _measure_kl(self, batch: Batch) -> float:
        """Returns KL(new || old), on the mean over the whole batch, or some of its pictures, in nats."""
        some = slice(None, None, -(-len(batch) // KL_ROWS) if self.policy.encoder.seen else None)
        new = self.policy.head(self.optimizer.outputs(batch.features[some]))
        return new.kl(batch.old[some]).mean().item()

    def _adapt(self, kl: float) -> None:
        """Brings the KL of the next update nearer to the target: by the coefficient of the KL penalty (section 4 of
        the paper), or by an adaptive learning rate (as in rl_games and RSL-RL, there a minibatch at a time)."""
        target = self.config.target_kl or DEFAULT_TARGET_KL
        if self.config.step_control == "kl-penalty":
            self.kl_coef *= 2 if kl > 1.5 * target else 0.5 if kl < target / 1.5 else 1
        elif self.config.lr_schedule == "adaptive":
            factor = 1 / 1.5 if kl > 2 * target else 1.5 if kl < target / 2 else 1
            self.lr = min(max(self.lr * factor, MIN_LR), MAX_LR)

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        return {"policy": self.policy.state(), "adam": self.optimizer.state(), "kl_coef": self.kl_coef, "lr": self.lr}

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_parameters(state["policy"])
        self.optimizer.load_state(state["adam"])
        self.kl_coef, self.lr = state["kl_coef"], state["lr"]
