"""When is asked how much: the label rounds of a run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlhf_control.config import FinetuneConfig
from rlhf_control.data import SUCCESS
from rlhf_control.errors import UserError


@dataclass(frozen=True)
class LabelRound:
    """Says when to ask how much."""

    index: int
    labels: int  # 0: only learn from what was answered, or is demonstrated
    answered: tuple[str, ...] = ()  # keys of questions of earlier rounds that were answered since the last fit


def iterations(config: FinetuneConfig) -> int:
    """Returns how many iterations the whole run has."""
    return max(1, config.total_steps // (config.ppo.num_envs * config.ppo.num_steps))


def label_rounds(config: FinetuneConfig, first: int) -> dict[int, LabelRound]:
    """Plans what to ask in which iteration: evenly from iteration `first` to `label_until` of the run; of asynchronous
    labelling only the first round, for the others come when people have time."""
    by_round = config.labels_by_round()[: 1 if config.labelling == "async" else None]
    span = config.label_until * (iterations(config) - first)
    at = [first + int(k * span / config.rounds) for k in range(len(by_round))]
    fit = len(set(at)) == len(at) and at[-1] < iterations(config)
    if not fit and first >= config.label_until * iterations(config):
        raise UserError(
            f"the largest round asks about {clips_needed(config):,} clips, which there are after {first + 1:,} "
            f"iterations, but questions are asked in the first {config.label_until:.0%} of {iterations(config):,}; "
            "lower --labels or --first-labels, or raise --total-steps or --label-until"
        )
    if not fit:
        steps = config.ppo.num_envs * config.ppo.num_steps
        enough = (first + math.ceil(config.rounds / config.label_until - 1e-9)) * steps
        fewer = f", or --rounds {int(span)}" if span >= 2 and _as_small(config, int(span)) else ""
        raise UserError(
            f"{config.rounds} label rounds do not fit into the first {config.label_until:.0%} of {iterations(config)} "
            f"iterations, of {steps:,} steps each; give --total-steps {enough} or more{fewer}"
        )
    return {i: LabelRound(k, n) for k, (i, n) in enumerate(zip(at, by_round, strict=True)) if n or not config.labels}


def _as_small(config: FinetuneConfig, rounds: int) -> bool:
    """Tells whether so few rounds ask about no more clips at once; else there would be clips enough only later."""
    return clips_needed(replace(config, rounds=rounds)) <= clips_needed(config)


def asked_sooner(rounds: Mapping[int, LabelRound], now: int, gap: int, end: float) -> dict[int, LabelRound]:
    """Plans anew what is to be asked after iteration `now`: the next round `gap` iterations later, and the others
    evenly from there to `end`; none of them later than it was to be."""
    done = {at: label_round for at, label_round in rounds.items() if at <= now}
    left = sorted(rounds.keys() - done)
    if not left or left[0] <= now + gap:
        return dict(rounds)
    apart = (end - now - gap) / len(left)
    return done | {min(at, now + gap + int(k * apart)): rounds[at] for k, at in enumerate(left)}


def clips_needed(config: FinetuneConfig) -> int:
    """Returns how many clips the largest round needs, so that no clip is asked about twice in it."""
    rounds = config.labels_by_round()
    largest = max(rounds) if config.labelling == "blocking" else max(rounds[0], config.human.open_queries)
    share = -(-largest // len(config.feedback))
    return max(share * max(config.clips_by_kind().values()), config.demonstration_clips if config.demonstrations else 0)


def episodes_needed(config: FinetuneConfig) -> int:
    """Returns how many episodes the first round asks about."""
    first = config.labels_by_round()[0] if config.labels else 0
    return -(-first // len(config.feedback)) if SUCCESS in config.feedback else 0


def share_due(share: float, asked: int, more: int, had: int) -> int:
    """Returns how many of the next `more` questions are special ones, of which there were `had` among `asked`: so that
    over the whole run, however it is cut into rounds, they make up this share, rounded down."""
    return min(more, max(0, int(share * (asked + more) + 1e-9) - had))
