"""What the loop measures of a rollout and of the reward, for the rows of metrics."""

from contextlib import suppress

import numpy as np

from rlhf_control.behaviours.catalogue import BEHAVIOURS, NO_REWARD, reward_named
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import Array, Rollout, Segments
from rlhf_control.errors import UserError
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.known import Reward


def accuracy(model: Reward, pairs: Segments, target: Array) -> float:
    """Share of clear answers (Q,) that the model, which has not seen them, predicts; 1/2 if there are none."""
    clear = target != 0.5
    if not clear.any():
        return 0.5
    return float(((model.probability(pairs).mean(0) > 0.5) == (target > 0.5))[clear].mean())


def episode_metrics(rollout: Rollout) -> dict[str, float | None]:
    """Raw returns and lengths of the episodes that ended in this rollout."""
    ended = bool(rollout.episode_returns)
    return {
        "env_return": float(np.mean(rollout.episode_returns)) if ended else None,
        "episode_length": float(np.mean(rollout.episode_lengths)) if ended else None,
    }


def true_reward(config: FinetuneConfig, rollout: Rollout, env_id: str) -> dict[str, float]:
    """What the oracle goes by, a step on the mean, for reports only: over-optimisation shows in it."""
    judge = config.judge()
    if not judge or judge in NO_REWARD:
        return {}
    return {"true_reward": float(reward_named(judge, env_id)(rollout.as_segments()).mean())}


def behaviour_metrics(config: FinetuneConfig, bank: SegmentBank, rng: np.random.Generator) -> dict[str, float]:
    """The success score of the policy's newest clips, if the run is about a behaviour."""
    name = config.behaviour()
    if name not in BEHAVIOURS or bank.steps < bank.length:
        return {}
    with suppress(UserError):  # every clip's time spans the end of an episode
        return {"score": float(BEHAVIOURS[name].score(bank.newest(rng)).mean())}
    return {}
