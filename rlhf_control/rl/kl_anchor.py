"""The KL anchor: holds the policy near a frozen reference, so that a learned reward is not pushed off its data."""

from typing import Any

import numpy as np
import torch

from rlhf_control.config import PPOConfig, ReferenceConfig
from rlhf_control.data import Array, Rollout
from rlhf_control.nets.policy import Policy, to_device
from rlhf_control.rl.ppo import PPO
from rlhf_control.rl.protocol import Learner

EVERY = 8  # steps; for reports the KL of some steps is as good as that of all


def frozen(policy: Policy) -> Learner:
    """Copies a policy, to be read only: by a learner, for that reads networks in compiled code."""
    return PPO(policy.frozen(), PPOConfig())


class Anchor:
    """Takes beta * KL(policy || reference) a step, on the mean over actions, off the reward. The reference is the
    pretrained policy, or is moved to the policy of each label round; beta is fixed, or follows a target."""

    def __init__(self, pretrained: Policy, config: ReferenceConfig) -> None:
        self.config = config
        self.pretrained = frozen(pretrained)
        self.reference = self.pretrained
        self.beta = config.beta

    def new_round(self, policy: Policy) -> None:
        """Makes the policy of this label round the reference, if the config says so."""
        if self.config.policy == "round":
            self.reference = frozen(policy)

    def tighten(self, policy: Policy) -> None:
        """Makes the policy the reference likewise, and doubles the coefficient; from 0, to what it is by default."""
        self.new_round(policy)
        self.beta = 2 * self.beta or ReferenceConfig().beta

    @torch.no_grad()
    def penalty(self, learner: Learner, rollout: Rollout) -> tuple[Array, dict[str, float]]:
        """Returns what to take off the reward of this rollout of the learner's policy, (T, N), and what to report.

        The coefficient then adapts to the KL of this very rollout, for the next one. Each policy sees the raw
        observations through its own normaliser.

        What is taken off is log policy(a|s) - log reference(a|s), which is the KL on the mean. The closed form is the
        same whatever was done, so as a reward it says nothing about the action.
        """
        action, some = torch.from_numpy(rollout.action), rollout.obs[::EVERY]
        p, reference = (each.distribution(rollout.obs) for each in (learner, self.reference))
        start = self.pretrained.distribution(some)
        penalty = self.beta * (p.log_prob(action) - reference.log_prob(action)).numpy()
        kl_reference, kl_start = (p[::EVERY].kl(q).mean().item() for q in (reference[::EVERY], start))
        metrics = {"kl_reference": kl_reference, "kl_start": kl_start, "beta": self.beta}
        if self.config.target is not None:
            self.beta = adapted_beta(self.beta, metrics["kl_reference"], self.config.target, rollout.reward.size)
        return penalty, metrics

    def state(self) -> dict[str, Any]:
        policies = {"pretrained": self.pretrained.policy.state(), "reference": self.reference.policy.state()}
        return {**policies, "beta": self.beta}

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.pretrained.policy.encoder.device
        self.pretrained, self.reference = (
            frozen(to_device(Policy.from_state(state[name]), device)) for name in ("pretrained", "reference")
        )
        self.beta = state["beta"]


def adapted_beta(beta: float, kl: float, target: float, steps: int, horizon: int = 10_000) -> float:
    """Moves log beta by proportional control (Ziegler et al., arXiv 1909.08593, section 2.2): the error is clipped to
    +-20 %, and a full error over `horizon` steps moves beta by 20 %."""
    error = np.clip(kl / target - 1, -0.2, 0.2)
    return float(beta * (1 + error * steps / horizon))
