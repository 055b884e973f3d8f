"""What the loop measures of a rollout and of the reward, for the rows of metrics."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from rlhf_control.behaviours.catalogue import BEHAVIOURS, NO_REWARD, reward_named
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import CORRECTION, Array, Query, Rollout, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.schema import AT_RANDOM, TAKEN_OVER
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.protocol import Reward
from rlhf_control.rng import stream
from rlhf_control.training.parts import Parts


def accuracy(model: Reward, pairs: Segments, target: Array) -> float:
    """Returns the share of clear answers (Q,) that the model, not having seen them, predicts; 1/2 if there are none."""
    clear = target != 0.5
    if not clear.any():
        return 0.5
    return float(((model.probability(pairs).mean(0) > 0.5) == (target > 0.5))[clear].mean())


def episode_metrics(rollout: Rollout) -> dict[str, float | None]:
    """Returns the mean raw return and length of the episodes that ended in this rollout."""
    ended = bool(rollout.episode_returns)
    return {
        "env_return": float(np.mean(rollout.episode_returns)) if ended else None,
        "episode_length": float(np.mean(rollout.episode_lengths)) if ended else None,
    }


def true_reward(config: FinetuneConfig, rollout: Rollout, env_id: str) -> dict[str, float]:
    """Returns what the oracle goes by, a step on the mean, for reports only: over-optimisation shows in it."""
    judge = config.judge()
    if not judge or judge in NO_REWARD:
        return {}
    return {"true_reward": float(reward_named(judge, env_id)(rollout.as_segments()).mean())}


def behaviour_metrics(config: FinetuneConfig, bank: SegmentBank, rng: np.random.Generator) -> dict[str, float]:
    """Returns the success score of the policy's newest clips, if the run is about a behaviour."""
    name = config.behaviour()
    if name not in BEHAVIOURS or bank.steps < bank.length:
        return {}
    try:
        clips = bank.newest(rng)
    except UserError:  # every clip's time spans the end of an episode
        return {}
    return {"score": float(BEHAVIOURS[name].score(clips).mean())}


def iteration_metrics(
    config: FinetuneConfig, p: Parts, rollout: Rollout, learned: Array, iteration: int
) -> dict[str, float | None]:
    """Returns what there is to say of an iteration: the answers so far, the rollout, what the reward says of it
    (`learned`, (T, N)), and how well the policy does what is wanted."""
    counts: dict[str, float | None] = {**p.labels.counts(), **p.votes.metrics()}
    counts |= episode_metrics(rollout) | {"reward_mean": float(learned.mean())}
    counts |= true_reward(config, rollout, p.learner.policy.env_id)
    return counts | behaviour_metrics(config, p.bank, stream(config.seed, "score", iteration))


# -- of a label round


def query_metrics(config: FinetuneConfig, queries: Sequence[Query]) -> dict[str, float]:
    """Returns what the round's queries cost in environment steps beside those the policy learns from."""
    attempts = {TAKEN_OVER: 1}
    steps = [
        attempts.get(q.strategy, config.query.attempts) * q.segments.action.shape[1]
        for q in queries
        if q.kind == CORRECTION
    ]
    return {"correction_steps": float(sum(steps))} if steps else {}


def on_new_answers(p: Parts, keys: Sequence[str]) -> dict[str, float]:
    """Returns how well the reward predicts the answers to these newest questions, from which it has not yet learned."""
    metrics: dict[str, float] = {}
    fresh = p.labels.pairs(first_asked(p.labels, keys, ("uniform",)))
    if p.reward.fitted and fresh is not None:
        metrics["reward/fresh_accuracy"] = accuracy(p.reward, *fresh)
    return metrics | p.guard.newest(p.reward, p.labels.answers(first_asked(p.labels, keys, AT_RANDOM)))


def first_asked(labels: Labels, keys: Iterable[str], strategies: Collection[str]) -> list[str]:
    """Returns the keys of those questions that these strategies chose and that were asked for the first time. The
    answers to repeats are known, and for measuring a reward the chosen ones are the hardest by design."""
    asked = [labels.asked[key] for key in keys]
    return [query.key for query in asked if query.strategy in strategies and not query.repeat]
