"""What the pretrained critic knows of a step, beside the numbers observed: inputs of the reward where a skill is kept.

F features: the numbers observed, the critic's last hidden layer and its value.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.nets.policy import Policy


class CriticsView:
    """Reads observations as they are and, behind them, as a policy's critic does, which never changes. What the old
    task is about (how far the block is from its goal) the critic has learned from millions of steps; a few answers need
    not teach it again."""

    def __init__(self, policy: Policy) -> None:
        """Raises ValueError for a policy that sees pictures or reads tokens: the reward sees through its encoder."""
        if policy.encoder.seen or policy.spaces.tokens:
            raise ValueError("the critic's view is of numbers")
        self.policy = policy.frozen()
        last = [layer for layer in (*policy.trunk, *policy.critic) if isinstance(layer, nn.Linear)][-1]
        self.size = policy.encoder.size + last.in_features + 1

    @property
    def device(self) -> torch.device:
        """Returns where it is evaluated: numbers always by the processor."""
        return torch.device("cpu")

    def to_device(self, device: torch.device) -> "CriticsView":
        """Stays where it is; returns itself."""
        return self

    def prepare(self, obs: np.ndarray) -> Tensor:
        """Returns the numbers of packed observations (..., O), raw."""
        return torch.from_numpy(np.require(self.policy.encoder.numbers(obs), requirements="W"))

    @torch.no_grad()
    def without_gradients(self, prepared: Tensor) -> Tensor:
        """Returns the features (..., F) of what `prepare` gave."""
        policy = self.policy
        hidden = policy.trunk(policy.obs_norm(prepared))
        for layer in list(policy.critic)[:-1]:
            hidden = layer(hidden)
        return torch.cat([prepared, hidden, policy.critic[-1](hidden)], -1)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns its weights."""
        return dict(self.policy.state_dict())

    def state(self) -> dict[str, Any]:
        """Returns all of it, as arrays and plain values."""
        return {"critic_of": self.policy.state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "CriticsView":
        """Makes one from what `state` gave. Raises KeyError or ValueError for another."""
        return cls(Policy.from_state(state["critic_of"]))
