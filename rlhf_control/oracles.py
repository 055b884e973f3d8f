"""Who answers: synthetic annotators that know a reward, so that a claim can be measured over many seeds.

An oracle is any callable (query, pool, rng) -> feedback. It sees raw clips and the pool they were drawn from, never
anything of the learner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlhf_control.behaviours import BEHAVIOURS
from rlhf_control.data import Array, Feedback, Query, Segments
from rlhf_control.errors import UserError, unknown_name


class Oracle(Protocol):
    """Answers one query."""

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback: ...


@dataclass(frozen=True)
class RewardOracle:
    """Prefers the clip with the higher sum of `reward`.

    With a temperature above 0 it is a Boltzmann (Plackett-Luce) annotator,
    P(A > B) = sigmoid((R_A - R_B) / (temperature * sd)), where sd is the standard deviation of the pool's returns.
    B-Pref's temperature is absolute and so means another noise in every environment.
    """

    reward: Callable[[Segments], Array]
    name: str
    temperature: float = 0.0

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        returns = self.reward(query.segments).sum(-1)  # (K,)
        if self.temperature:
            noise = self.temperature * self.reward(pool).sum(-1).std()
            returns = returns + noise * rng.gumbel(size=returns.shape)  # its order is a Plackett-Luce sample
        _, ranks = np.unique(-returns, return_inverse=True)  # equal returns tie
        return Feedback(tuple(ranks.tolist()), f"oracle:{self.name}")


def coin_flip(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
    """Answers without looking: a control that must teach nothing."""
    return Feedback(tuple(rng.permutation(len(query.segments)).tolist()), "oracle:coin-flip")


def env_reward(segments: Segments) -> Array:
    """The environment's own reward, (..., L)."""
    return segments.env_reward


def reward_named(name: str, env_id: str) -> Callable[[Segments], Array]:
    """The reward behind an oracle's name: a behaviour of this environment, or "env"."""
    if name == "env":
        return env_reward
    if name == "coin-flip":
        raise UserError("coin flips have no reward to learn from; choose another --oracle or --learn-from votes")
    if name not in BEHAVIOURS:
        raise unknown_name("oracle", name, [*BEHAVIOURS, "env", "coin-flip"])
    if BEHAVIOURS[name].env_id != env_id:
        raise UserError(
            f"the behaviour '{name}' is for {BEHAVIOURS[name].env_id}, the policy for {env_id}; try --oracle env"
        )
    return BEHAVIOURS[name].reward


def make_oracle(name: str, env_id: str, temperature: float) -> Oracle:
    """The oracle of this name: a behaviour, "env" or "coin-flip"."""
    if name == "coin-flip":
        return coin_flip
    if name == "custom":
        raise UserError("this run was answered by an oracle of its own; pass it: resume(path, oracle=...)")
    return RewardOracle(reward_named(name, env_id), name, temperature)
