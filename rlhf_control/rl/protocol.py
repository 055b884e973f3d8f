"""What others need of a learner, and a learner of its optimiser: a second one is another file in this folder.

T time, N environments, B batch = T * N, O observation, A action or logits.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rlhf_control.data import Array, Rollout
from rlhf_control.nets.distributions import Categorical, Gaussian
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.batch import Batch
from rlhf_control.spaces import Act


class Learner(Protocol):
    """Says what the loop, the guard and the KL anchor need of whatever improves a policy by its rollouts."""

    policy: Policy

    def acting(self) -> Act:
        """Returns the function from raw observations to actions, by the policy as it now is, for `collect`."""
        ...

    def distribution(self, obs: Array) -> Gaussian | Categorical:
        """Returns the policy's distributions, as it now is, for raw observations (..., O)."""
        ...

    def update(self, rollout: Rollout, rng: np.random.Generator, progress: float) -> dict[str, float]:
        """Improves the policy by a rollout (T, N) of it and returns metrics, among them `entropy` in nats where there
        is one. `progress` in [0, 1] moves the schedules. Raises NonFiniteError."""
        ...

    def rescale_value(self, rollouts: Sequence[Rollout]) -> None:
        """Brings what values state to the reward of these rollouts (T, N), in one step, as far as it is in a straight
        line with the one before."""
        ...

    def fit_value(self, rollout: Rollout, epochs: int, rng: np.random.Generator, progress: float = 0.0) -> None:
        """Fits what values states, and nothing else, for when the reward has changed under it."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs, policy and optimiser."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to this state, bit for bit."""
        ...


class Update(Protocol):
    """Says what PPO needs of what takes its minibatch steps. Each reads and steps the networks of one policy."""

    def acting(self) -> Act:
        """Acts as `Policy.acting` does."""
        ...

    def outputs(self, features: Tensor) -> Tensor:
        """Returns what the actor puts out, (..., A), for normalised observations (..., O)."""
        ...

    def values(self, features: Tensor) -> Tensor:
        """Returns the critic's values, (...,)."""
        ...

    def outputs_and_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both of these."""
        ...

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """Returns the log-probabilities (B,) of these actions, given the actor's outputs (B, A)."""
        ...

    def steps(
        self, batch: Batch, order: Sequence[Array], lr: float, clip: float, kl_coef: float, max_kl: float
    ) -> list[dict[str, float]]:
        """Takes a step for each minibatch, given as rows of the batch. It stops before one whose approximate KL exceeds
        `max_kl`. Returns the metrics of the steps taken."""
        ...

    def value_steps(self, batch: Batch, order: Sequence[Array], lr: float) -> None:
        """Steps the critic alone, down its part of the loss."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns the entries of torch.optim.Adam by the parameters' numbers."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to these entries; without any, to before the first step."""
        ...
