"""What an early end costs: found from answers about clips of which an end cuts one short.

Comparisons of clips of one length leave open where the reward's zero is, and after an end there is nothing for ever:
so whether an end is cheap or dear is no matter of theirs. A clip that ended early is worth what there is of it; each
step that it lacks is a step of nothing, which is so many standard deviations worse than the mean of the learned reward.
How many, is believed to be about a number given before, and answers move that belief (a likelihood on a grid).

E ensemble, G grid, Q answers, S clips, L steps.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from rlhf_control.config import RewardConfig
from rlhf_control.data import Answers, Array, Segments

GRID = 2.0 ** (np.arange(-10, 11) / 4)  # times what is believed before: from a sixth to six times
SPREAD = np.log(2.0)  # of that belief: it may be half or twice as much
LOG_PRIOR = -0.5 * np.square(np.log(GRID) / SPREAD)
# The learner is told so many times what answers say. It looks ahead a hundred steps, where returns count a thousand; so
# with a true price it falls more often than is good: told once, Hopper has 0.88 of its reward's gain, one and a half
# times 1.18, twice 1.23 (ten seeds each, of a first version: experiments/results/label_trials.json).
CAUTION = 1.5
LEAST_LAPSE = 0.1


class Judge(Protocol):
    """Says what is needed of a reward model."""

    config: RewardConfig
    output_std: Tensor
    temperature: float
    ends: "EndCosts | None"

    def members(self, steps: Segments) -> Array: ...
    def novelty(self, steps: Segments) -> Array: ...
    def trust_in(self, answers: Answers) -> Array: ...


class Worth(NamedTuple):
    """Says what clips are worth to each member, in logits; (E, S) each."""

    there: Array  # what of them there is, as a mean over the steps of a whole clip
    unsure: Array  # standard deviation of that
    lacking: Array  # what they would lose, were a standard deviation lost at each step that they lack


def worth(reward: Judge, clips: Segments, length: int) -> Worth:
    """Returns what clips (S, L, ...), of `length` steps where they are whole, are worth. Of steps before an end,
    which are often such as it has not seen, the reward is unsure, and of all of them alike; where members differ, each
    has its own say."""
    there = np.ones(clips.env_reward.shape, bool) if clips.mask is None else clips.mask
    unit = reward.config.logit_scale * reward.output_std.numpy() / reward.temperature  # (E, 1): logits of one
    rewards = np.where(there, reward.members(clips), 0.0).sum(-1) / length
    unsure = np.where(there, reward.novelty(clips), 0.0).sum(-1) / length
    return Worth(unit * rewards, unit * unsure, unit * (1 - there.sum(-1) / length))


def preferences(worth: Worth, items: Array, costs: Array, lapse: float, trust: Array | float = 1.0) -> Array:
    """Returns the probabilities (G, Q) that the first of each answer's clips (Q, 2) is preferred, at costs (G,). Who
    answers tosses a coin with probability `lapse`, and is to be trusted so far, (Q,). What is not known of the margin
    flattens it (MacKay, "The evidence framework applied to classification networks", Neural Computation 4, 1992)."""
    logits = worth.there - costs[:, None, None] * worth.lacking  # (G, E, S)
    variance = np.square(worth.unsure)[:, items].sum(-1)  # (E, Q)
    margin = (logits[..., items[:, 0]] - logits[..., items[:, 1]]) / np.sqrt(1 + np.pi / 8 * variance) * trust
    p = (1 / (1 + np.exp(np.clip(-margin, -50, 50)))).mean(1)
    return (1 - lapse) * p + lapse / 2


class EndCosts:
    """Holds what is believed of the cost, in standard deviations of the learned reward for each step left out."""

    def __init__(self, given: float, length: int) -> None:
        """`given`: what the learner is told before anybody is asked; `length`: steps of a whole clip."""
        self.costs, self.length = given / CAUTION * GRID, length
        self.lapse = LEAST_LAPSE
        self.log_belief = LOG_PRIOR

    @property
    def belief(self) -> Array:
        """Returns the probabilities (G,) of the costs."""
        p = np.exp(self.log_belief - self.log_belief.max())
        return p / p.sum()

    @property
    def cost(self) -> float:
        """Returns what the learner is told: CAUTION times what is believed, on the mean of the logarithms."""
        return CAUTION * float(np.exp(self.belief @ np.log(self.costs)))

    @property
    def spread(self) -> float:
        """Returns the standard deviation of the cost's logarithm."""
        logs = np.log(self.costs)
        return float(np.sqrt(self.belief @ np.square(logs - self.belief @ logs)))

    def learn(self, reward: Judge, answers: Answers | None, lapse: float) -> dict[str, float]:
        """Weighs the costs anew by all answers (pairs) about ends, as the reward now is; returns metrics. A tie is
        half an answer either way."""
        self.lapse = max(LEAST_LAPSE, lapse)
        self.log_belief = LOG_PRIOR
        if answers is not None:
            known = worth(reward, answers.clips, self.length)
            p = preferences(known, answers.items, self.costs, self.lapse, reward.trust_in(answers))
            first = np.sign(answers.ranks[:, 1] - answers.ranks[:, 0])  # 1: preferred, 0: a tie
            self.log_belief = self.log_belief + ((1 + first) / 2 * np.log(p) + (1 - first) / 2 * np.log(1 - p)).sum(1)
        return {"end_costs": self.cost, "end_costs_spread": self.spread}

    def state(self) -> dict[str, Any]:
        return {"log_belief": self.log_belief, "lapse": self.lapse}

    def load_state(self, state: dict[str, Any]) -> None:
        if np.shape(state["log_belief"]) != GRID.shape:
            raise ValueError(f"the belief has shape {np.shape(state['log_belief'])}, not {GRID.shape}")
        self.log_belief, self.lapse = np.asarray(state["log_belief"]), float(state["lapse"])
