"""Which of two is better, and how sure that is: two policies by their episodes, or two groups of runs by their seeds.

A pair (one of each side, of the same seed) says 1 if the first is better, 0 if the second is, 1/2 for a tie. The mean
of that is the probability of improvement (Agarwal et al. 2021, arXiv 2108.13264). Its interval holds at all times at
once, so one may look after every pair and stop when it leaves 1/2; sequential tests of robot policies are the subject
of arXiv 2503.10966.

n pairs, R runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.analysis.curves import Curve, load_curves, metrics_of, require_metrics, whole_runs
from rlhf_control.analysis.evaluate import measure, run_score
from rlhf_control.analysis.statistics import (
    betting_interval,
    bootstrap_interval,
    improvement,
    interquartile_mean,
    outcomes,
)
from rlhf_control.config.comparing import CompareConfig
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_each
from rlhf_control.rng import stream
from rlhf_control.runs.progress import say
from rlhf_control.wording import counted

BLOCK = 20  # episodes of each policy between two looks
CHANCE = 0.5
LAST = 0.1  # of a run's steps: what it came to is the mean over them


# -- two sides


@dataclass(frozen=True)
class Side:
    """Holds one side of a comparison: of what it is made, and a number for each seed."""

    names: tuple[str, ...]  # as they were given
    scores: Array  # (R,) or (n,)
    seeds: tuple[int, ...]


def compare(config: CompareConfig) -> dict[str, Any]:
    """Compare two policies by their episodes, or two groups of runs by their seeds. Returns what was found: plain
    values, for `comparison_text` and JSON."""
    by_episodes = len(config.runs) == len(config.against) == 1
    if by_episodes:
        what, sides, planned = compare_policies(config)
    else:
        what, sides = compare_runs(config)
        planned = len(sides[0].scores)
    pairs = min(len(side.scores) for side in sides)
    x = outcomes(sides[0].scores[:pairs], sides[1].scores[:pairs])
    low, high = betting_interval(x, config.level)
    rng = stream(0, "compare")
    sided = [
        {
            "names": list(side.names), "seeds": list(side.seeds), "scores": side.scores.tolist(),
            "iqm": float(interquartile_mean(side.scores)),
            "interval": [float(bound) for bound in bootstrap_interval(side.scores, rng, level=config.level)],
        }
        for side in sides
    ]  # fmt: skip
    return {
        "metric": what, "unit": "episodes" if by_episodes else "runs",
        "level": config.level, "sides": sided, "pairs": len(x), "planned": planned,
        "improvement": float(x.mean()), "interval": [float(low[-1]), float(high[-1])],
        "every_pair": list(improvement(sides[0].scores, sides[1].scores, rng, config.level)),
        "better": verdict(float(low[-1]), float(high[-1])),
    }  # fmt: skip


def verdict(low: float, high: float) -> str:
    """Return "first", "second" or "" by the interval of the probability of improvement."""
    return "first" if low > CHANCE else "second" if high < CHANCE else ""


def compare_policies(config: CompareConfig) -> tuple[str, list[Side], int]:
    """Run both policies in episodes of the same seeds, until one is shown to be better or there are enough."""
    paths = (config.runs[0], config.against[0])
    policies = find_each(paths, config)
    if policies[0].env_id != policies[1].env_id:
        raise UserError(
            f"{paths[0]} is for {policies[0].env_id}, {paths[1]} for {policies[1].env_id}; compare policies of one "
            "environment"
        )
    metric = config.metric or "return"
    if metric not in ("return", "score"):
        raise UserError(f"two policies are compared by return or score; '{metric}' is a metric of runs: name several")
    score = config.score or (run_score(Path(paths[0]), config.behaviours) if metric == "score" else "")
    if metric == "score" and not score:
        raise UserError(f"{paths[0]} does not say what it is scored by; name a behaviour with --score")
    numbers: list[list[float]] = [[], []]
    while len(numbers[0]) < config.episodes:
        block = min(BLOCK, config.episodes - len(numbers[0]))
        for policy, own in zip(policies, numbers, strict=True):
            found = measure(policy, score, block, config.seed + len(own))
            own += found["scores" if score else "returns"]
        low, high = betting_interval(outcomes(*map(np.array, numbers)), config.level)
        say(f"{len(numbers[0])} of at most {config.episodes} episodes: {low[-1]:.2f} to {high[-1]:.2f}")
        if verdict(low[-1], high[-1]):
            break
    seeds = tuple(range(config.seed, config.seed + len(numbers[0])))
    sides = [Side((path,), np.array(own), seeds) for path, own in zip(paths, numbers, strict=True)]
    return score or "return", sides, config.episodes


def compare_runs(config: CompareConfig) -> tuple[str, list[Side]]:
    """Take the late values of a metric of each run, those of equal seeds beside each other."""
    groups = [whole_runs(load_curves(paths)) for paths in (config.runs, config.against)]
    for group, paths in zip(groups, (config.runs, config.against), strict=True):
        if not group:
            raise UserError(f"of {' '.join(paths)} no run is left to compare; name at least one that has finished")
    there = set(metrics_of(groups[0])) & set(metrics_of(groups[1]))
    metric = {"return": "env_return"}.get(config.metric, config.metric)
    metric = metric or next((m for m in ("score", "env_return") if m in there), "env_return")
    refuse_unlike([c for group in groups for c in group if len(c.series(metric)[0])], metric)
    for group in groups:
        require_metrics(group, [metric], "env_steps")
    sides = [side_of(group, metric) for group in groups]
    shared = [seed for seed in sides[0].seeds if seed in sides[1].seeds]
    if len(shared) == min(len(side.seeds) for side in sides):  # then pairs are of one seed each
        sides = [in_order(side, shared) for side in sides]
    return metric, sides


def refuse_unlike(curves: Sequence[Curve], metric: str) -> None:
    """Raise UserError if the runs are of several environments, or scored by several behaviours: their numbers mean
    different things."""
    if metric not in ("score", "env_return"):
        return
    environments = list(dict.fromkeys(curve.env for curve in curves if curve.env))
    if len(environments) > 1:
        raise UserError(f"the runs are of {' and '.join(environments)}; compare runs of one environment")
    scored = list(dict.fromkeys(curve.behaviour for curve in curves)) if metric == "score" else []
    if len(scored) > 1:
        raise UserError(
            f"the runs are scored by {' and '.join(scored)}; compare runs of one behaviour, or by --metric env_return"
        )


def side_of(curves: Sequence[Curve], metric: str) -> Side:
    """Return the values of the curves that have the metric: of each the mean over the last tenth of its steps, for few
    episodes may have ended in the last iteration."""
    curves = [curve for curve in curves if len(curve.series(metric)[0])]
    series = [curve.series(metric) for curve in curves]
    late = np.array([y[x >= (1 - LAST) * x[-1]].mean() for x, y in series])
    return Side(tuple(str(curve.path) for curve in curves), late, tuple(curve.seed for curve in curves))


def in_order(side: Side, first: Sequence[int]) -> Side:
    """Return the side with the runs of these seeds at its beginning."""
    order = sorted(range(len(side.seeds)), key=lambda i: first.index(side.seeds[i]) if side.seeds[i] in first else 1e9)
    return Side(tuple(side.names[i] for i in order), side.scores[order], tuple(side.seeds[i] for i in order))


def comparison_text(result: dict[str, Any]) -> str:
    """Return what `compare` found, in lines for the terminal."""
    sure = f"{100 * result['level']:g} %"
    lines = []
    for letter, side in zip("AB", result["sides"], strict=True):
        low, high = side["interval"]
        spread = f" ({low:.4g} to {high:.4g})" if np.isfinite(low) else ""
        lines.append(f"{letter}  {side['iqm']:.4g}{spread}  {' '.join(side['names'])}")
    low, high = result["interval"]
    lines.append(
        f"P(A better than B) {result['improvement']:.2f} ({low:.2f} to {high:.2f}), from "
        f"{counted(result['pairs'], 'pair')} of {result['unit']}; {sure}, however often one looks"
    )
    if result["unit"] == "runs":
        mean, low, high = result["every_pair"]
        lines.append(f"every run of A against every one of B: {mean:.2f} ({low:.2f} to {high:.2f}), bootstrap")
    better = {"first": "A is better", "second": "B is better", "": "not decided"}[result["better"]]
    more = "" if result["better"] else f"; more {result['unit']} may decide it"
    return "\n".join([*lines, f"{better} in {result['metric']}{more}"])
