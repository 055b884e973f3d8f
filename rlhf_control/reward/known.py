"""Rewards that need not be learned, in the learned one's place: an upper bound and a control."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rlhf_control.behaviours.catalogue import reward_named
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import SUCCESS, Answers, Array, Rollout, Segments, mean_over_steps
from rlhf_control.errors import UserError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.transformer import TokenEncoder
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.protocol import Reward

MOST_NUMBERS = 1000  # for a straight line; more are pictures that are read as numbers, none of which says anything
KNOWN_SCALE = 100.0  # logit of a known reward's difference of one standard deviation: as good as certain


class KnownReward:
    """Stands in the learned reward's place without being learned: the oracle's own as an upper bound, a constant as a
    control. It is brought to a standard deviation of 1 as the learned one is, and at the same moments. Its zero is
    known too and stays, unless it is `centered`: where an episode can end, it says whether that is a loss."""

    def __init__(
        self, reward: Callable[[Segments], Array], *, scaled: bool = True, centered: bool = False,
        ready: bool = False, whole: int = 0,
    ) -> None:  # fmt: skip
        """`ready`: from the first step on, rather than from the first fit. `whole`: as of `RewardModel`."""
        self.reward, self.scaled, self.centered, self.whole = reward, scaled, centered, whole
        self.mean, self.std = 0.0, 1.0
        self.fitted = ready

    def predict(self, steps: Rollout | Segments) -> Array:
        """Returns rewards, (...,) float32; zero before the first fit."""
        steps = steps.as_segments() if isinstance(steps, Rollout) else steps
        reward = (self.reward(steps) - self.mean) / self.std if self.fitted else np.zeros_like(steps.env_reward)
        return reward.astype(np.float32)

    def clip_logits(self, clips: Segments) -> Array:
        """Returns logits (1, ...) of clips (..., L)."""
        mean = mean_over_steps(self.reward(clips), clips.mask)
        if self.whole and clips.mask is not None:
            mean = mean * clips.mask.sum(-1) / self.whole
        return KNOWN_SCALE * (mean[None] - self.mean) / self.std

    def probability(self, pairs: Segments) -> Array:
        """Returns the probability (1, Q) that the first clip of each pair is preferred."""
        logits = self.clip_logits(pairs)
        return np.exp(-np.logaddexp(0, logits[..., 1] - logits[..., 0]))

    def fit(self, answers: Answers, reference: Segments, rng: np.random.Generator) -> dict[str, float]:
        rewards = self.reward(reference)
        self.mean = float(rewards.mean()) if self.centered else 0.0
        self.std = max(float(rewards.std()), 1e-6) if self.scaled else 1.0
        self.fitted = True
        return {}

    def trust_in(self, answers: Answers) -> Array:
        return np.ones(len(answers))

    def uncertainty(self, steps: Rollout | Segments) -> Array:
        steps = steps.as_segments() if isinstance(steps, Rollout) else steps
        return np.zeros(steps.env_reward.shape, np.float32)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "fitted": self.fitted}

    def load_state(self, state: dict[str, Any]) -> None:
        self.mean, self.std, self.fitted = state["mean"], state["std"], state["fitted"]


def make_reward(
    config: FinetuneConfig, obs_size: int, action_size: int, env_id: str,
    encoder: Encoder | TokenEncoder | CriticsView | None = None, whole: int = 0, *, same: bool = False,
) -> Reward:  # fmt: skip
    """Makes the learned reward, or one of the two that it is measured against. `encoder`, `whole`: see `RewardModel`;
    `same`: the oracle's is the one that the policy was trained on, and stays in its unit."""
    if config.learn_from == "votes":
        squares, linear = squares_wanted(config, encoder), linear_wanted(config, encoder, whole, obs_size)
        options = replace(config.reward, squares="on" if squares else "off", linear="on" if linear else "off")
        return RewardModel(obs_size, action_size, options, env_id, encoder, whole)
    if config.learn_from == "oracle":
        centered = not config.normalize_reward  # as it was before there was that option
        known = reward_named(config.oracle, env_id)
        return KnownReward(known, scaled=not same, centered=centered, ready=same, whole=whole)
    return KnownReward(lambda steps: np.ones_like(steps.env_reward), scaled=False)


def squares_wanted(config: FinetuneConfig, encoder: Encoder | TokenEncoder | CriticsView | None) -> bool:
    """Tells whether the reward sees squares: unless said otherwise, where marks finish a skill that is kept. Raises
    UserError if they are asked for of what is no numbers."""
    numbers = encoder is None or isinstance(encoder, CriticsView)
    if config.reward.squares == "on" and not numbers:
        raise UserError("--reward.squares on is for observations that are numbers; leave it out")
    finished = SUCCESS in config.feedback and config.shrink == 1 and numbers
    return config.reward.squares == "on" or (config.reward.squares == "auto" and finished)


def linear_wanted(
    config: FinetuneConfig, encoder: Encoder | TokenEncoder | CriticsView | None, whole: int, numbers: int
) -> bool:
    """Tells whether there is a straight line below the networks: unless said otherwise, where observations are not too
    many `numbers`, seen as they are, clips are parts of episodes and no success is marked. Raises UserError if one is
    asked for in what is no numbers."""
    if config.reward.linear == "on" and not (encoder is None or isinstance(encoder, CriticsView)):
        raise UserError("--reward.linear on is for observations that are numbers; leave it out")
    fits = encoder is None and not whole and SUCCESS not in config.feedback and numbers <= MOST_NUMBERS
    return config.reward.linear == "on" or (config.reward.linear == "auto" and fits)
