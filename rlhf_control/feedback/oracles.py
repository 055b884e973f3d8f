"""Who answers: synthetic annotators that know a reward, so that a claim can be measured over many seeds.

An oracle is any callable (query, pool, rng) -> feedback. It sees raw clips and the pool they were drawn from, never
anything of the learner. What it answers depends on these alone, not on what it was asked before: a resumed run hears
the same. To add one, write a function.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from rlhf_control.behaviours.behaviour import StepReward
from rlhf_control.behaviours.catalogue import reward_named, score_named
from rlhf_control.behaviours.dialogue import dialogue_of
from rlhf_control.config import AnnotatorConfig
from rlhf_control.data import (
    COMPARISON,
    DEMONSTRATION,
    GROUPS,
    RANKING,
    RATING,
    REWARD,
    SUCCESS,
    Array,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.errors import UserError
from rlhf_control.feedback.mistakes import Looks, mistake_rate

PERFECT = AnnotatorConfig()
SUCCESSFUL = 0.5  # a success is better than this share of the pool's clips, where nothing else says what one is


class Oracle(Protocol):
    """Answers one query of any kind."""

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback: ...


@dataclass(frozen=True)
class RewardOracle:
    """Judges clips by their return R, the sum of `reward`. In the pool, sd is the standard deviation of the returns.

    With a temperature above 0 it is a Boltzmann annotator, P(A > B) = sigmoid((R_A - R_B) / (temperature * sd)); over
    more than two clips a Plackett-Luce one, and a rating is at least k with the probability
    sigmoid((R - c_k) / (temperature * sd)), c_k the quantile (k - 1) / levels of the pool's returns. B-Pref's
    temperature is absolute and so means another noise in every environment. A scalar reward is R / L with Gaussian
    noise of temperature times the standard deviation of R / L in the pool.

    `config` has the other departures from reason. They happen in this order: it answers by the place alone, or it
    cannot tell, or it ranks or rates with Boltzmann noise and ties, and then may turn the answer upside down.

    Of a group of clips it is the mean that counts. A demonstration is not judged: it stands above the policy's own
    clips, and nothing is said about these. A correction is judged like a comparison. A success mark goes by `score`
    where the config says from which score on an episode is a success; else, if `told`, by whether the environment says
    so after any step that is shown, as evaluations count; else by the episode's mean return over a clip's length, which
    must be above the median of the pool's.
    """

    reward: StepReward
    name: str
    temperature: float = 0.0
    config: AnnotatorConfig = PERFECT
    later: StepReward | None = None  # where the preference drifts; none: nowhere
    score: Callable[[Segments], Array] | None = None  # (...,) of episodes, as config.success has it
    told: bool = False  # the environment's own word on success counts
    memo: list[tuple[Segments, list[Array]]] = field(default_factory=list, compare=False, repr=False)
    looks: list[tuple[Segments, Looks]] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        config, K = self.config, 2 if query.kind == GROUPS else len(query.segments)
        alike = len(query.segments) // K  # clips that stand for one
        member = query.index % len(config.crowd) if config.crowd else 0
        name = f"oracle:{self.name}" + (f" {member + 1}" if config.crowd else "")
        if query.kind == DEMONSTRATION:
            return Feedback((0,) + (1,) * (K - 1), name)
        if query.kind in (COMPARISON, RANKING, GROUPS) and rng.random() < config.position_bias:
            return Feedback(tuple(np.repeat(range(K), alike).tolist()), name)
        returns, pool_returns = self.returns(query, pool)
        if query.kind == SUCCESS:  # as of a clip of the pool's length
            returns = returns * self.weights(pool[0]).sum() / self.weights(query.segments[0]).sum()
        returns = returns.reshape(K, alike).mean(1)
        spread = pool_returns.std()
        if config.skip and returns.max() < np.quantile(pool_returns, config.skip):
            return Feedback(None, name)
        noise = (self.temperature + config.temperature_drift * query.round) * spread
        upside_down = rng.random() < mistake_rate(config, query.index) + self.mistaken_by_looks(query, pool)
        if config.crowd:
            upside_down ^= rng.random() < (1 - config.crowd[member]) / 2
        if query.kind == RATING:
            cuts = np.quantile(pool_returns, np.arange(1, config.levels) / config.levels)
            rating = 1 + int((returns[0] + noise * rng.logistic() > cuts).sum())
            return Feedback(None, name, value=float(config.levels + 1 - rating if upside_down else rating))
        if query.kind == SUCCESS:
            good = self.said_success(query.segments[0])
            if good is None:
                good = bool(returns[0] + noise * rng.logistic() >= np.quantile(pool_returns, SUCCESSFUL))
            return Feedback(None, name, value=float(good != upside_down))
        if query.kind == REWARD:
            value = returns[0] + noise * rng.normal()
            value = 2 * pool_returns.mean() - value if upside_down else value
            return Feedback(None, name, value=float(value / self.weights(query.segments[0]).sum()))
        perceived = returns + noise * rng.gumbel(size=K)  # whose order is a Plackett-Luce sample
        ranks = ranks_with_ties(perceived, returns, config.equal * spread)
        return Feedback(tuple(np.repeat(ranks.max() - ranks if upside_down else ranks, alike).tolist()), name)

    def returns(self, query: Query, pool: Segments) -> tuple[Array, Array]:
        """Returns of the query's clips (K,) and of the pool's (S,), as the annotator perceives them in this round."""
        rewards = [self.reward] if self.later is None else [self.reward, self.later]
        if not self.memo or self.memo[0][0] is not pool:  # a round asks many questions about one pool
            self.memo[:] = [(pool, [self._sums(reward, pool) for reward in rewards])]
        of_pool = self.memo[0][1]
        of_query = [self._sums(reward, query.segments) for reward in rewards]
        if self.later is None:
            return of_query[0], of_pool[0]
        share = min(1.0, self.config.drift * query.round)
        shares = [(1 - share) / (of_pool[0].std() or 1.0), share / (of_pool[1].std() or 1.0)]
        return shares[0] * of_query[0] + shares[1] * of_query[1], shares[0] * of_pool[0] + shares[1] * of_pool[1]

    def mistaken_by_looks(self, query: Query, pool: Segments) -> float:
        """Returns the chance of a mistake that comes of how clips look."""
        if not (self.config.mistake_alike or self.config.mistake_fast):
            return 0.0
        if not self.looks or self.looks[0][0] is not pool:
            self.looks[:] = [(pool, Looks.of(pool))]
        return self.looks[0][1].mistake_rate(self.config, query.segments)

    def said_success(self, episode: Segments) -> bool | None:
        """Tells whether an episode (L, ...) is a success, where that is said of it and not by comparison."""
        if self.config.success is not None and self.score is not None:
            return bool(self.score(episode) >= self.config.success)
        return bool(episode.success.any()) if self.told and episode.success is not None else None

    def weights(self, clips: Segments) -> Array:
        """Returns the weights (L,) of clips' steps, or (..., L) if they differ in length; ones without myopia."""
        if clips.mask is None:
            return self.config.discount ** np.arange(clips.env_reward.shape[-1])[::-1]
        to_come = clips.mask[..., ::-1].cumsum(-1)[..., ::-1] - 1
        return np.where(clips.mask, self.config.discount ** np.maximum(to_come, 0), 0.0)

    def _sums(self, reward: StepReward, clips: Segments) -> Array:
        weights = self.weights(clips)
        rewards = reward(clips)
        sums = rewards @ weights if clips.mask is None else (np.where(clips.mask, rewards, 0.0) * weights).sum(-1)
        if not np.isfinite(sums).all():
            raise UserError(f"the oracle '{self.name}' finds rewards that are not finite; look at what it reads")
        return sums


@dataclass(frozen=True)
class TextOracle:
    """Answers comparisons of two replies by a function of (prompt, one reply, another), which returns 0 or 1, whichever
    is better, or None, if it cannot tell."""

    better: Callable[[str, str, str], int | None]

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        if query.kind != COMPARISON:
            raise UserError(f"a function of two replies answers comparisons, not a {query.kind}; leave out feedback")
        (prompt, first), (_, second) = (dialogue_of(query.segments[i]) for i in range(2))
        said = self.better(prompt, first, second)
        if said is not None and said not in (0, 1):
            raise UserError(f"the feedback function said {said!r}; it is to return 0, 1 or None")
        return Feedback(None if said is None else (0, 1) if said == 0 else (1, 0), "function")


def ranks_with_ties(perceived: Array, returns: Array, threshold: float) -> Array:
    """Ranks, (K,), 0 the best, of clips in the order of `perceived` (K,). A clip that is perceived like the best of the
    rank before, or whose return (K,) differs from that one's by less than `threshold`, ties with it."""
    ranks = np.zeros(len(perceived), np.int64)
    best, *rest = np.argsort(-perceived, kind="stable")
    rank = 0
    for clip in rest:
        if perceived[clip] != perceived[best] and abs(returns[clip] - returns[best]) >= threshold:
            best, rank = clip, rank + 1
        ranks[clip] = rank
    return ranks


def coin_flip(query: Query, pool: Segments, rng: np.random.Generator, levels: int = 5) -> Feedback:
    """Answers without looking: a control that must teach nothing."""
    if query.kind in (RATING, REWARD, SUCCESS):
        possible = (1, levels + 1) if query.kind == RATING else (0, 2)
        value = rng.normal() if query.kind == REWARD else rng.integers(*possible)
        return Feedback(None, "oracle:coin-flip", value=float(value))
    size = len(query.segments)
    ranks = np.repeat(rng.permutation(2), size // 2) if query.kind == GROUPS else rng.permutation(size)
    return Feedback(tuple(ranks.tolist()), "oracle:coin-flip")


def make_oracle(name: str, env_id: str, temperature: float, config: AnnotatorConfig = PERFECT) -> Oracle | None:
    """Makes the oracle of this name: a behaviour, "env" or "coin-flip"; None for people, who answer in their own
    time."""
    if name == "human":
        return None
    if name == "coin-flip":
        return partial(coin_flip, levels=config.levels)
    if name == "custom":
        raise UserError("this run was answered by an oracle of its own; pass it: resume(path, oracle=...)")
    later = reward_named(config.drift_to, env_id) if config.drift else None
    reward = reward_named(name, env_id)
    return RewardOracle(reward, name, temperature, config, later, score_named(name), told=name == "env")
