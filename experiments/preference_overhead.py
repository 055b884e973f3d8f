"""What does learning from preferences cost in time, beside plain PPO?

Fine-tuning on 100 answers of a synthetic oracle, an ensemble of 5, against PPO on the environment's reward: the same
PPO, steps and environments, by turns on an otherwise idle machine; the ratio of each turn, its median and range. Then
one more fine-tuning under cProfile, which slows Python's own work more than the rest, for where the time goes.

Command: python experiments/preference_overhead.py     (--steps 250000 1000000 --turns 5)
Cost:    ten minutes on two idle cores
Result:  results/preference_overhead.md and .json
"""

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, as_called

from rlhf_control.config import FinetuneConfig, GuardConfig, PretrainConfig, ReferenceConfig
from rlhf_control.runs.machine import environment_facts
from rlhf_control.train import finetune, pretrain

PREFERENCES = {  # what plain PPO does not do, or does less of -> the function's file and name
    "queries: choosing clips": ("queries/questions.py", "make_queries"),
    "queries: answers, and their way to the disk": ("feedback/labels.py", "ask"),
    "queries: clips put together for the fit": ("feedback/labels.py", "answers"),
    "queries: pool of clips": ("queries/segments.py", "pool"),
    "queries: older clips kept": ("queries/segments.py", "archive"),
    "learning: fit of the ensemble": ("reward/model.py", "fit"),
    "learning: values after a fit": ("training/parts.py", "refit_value"),
    "each iteration: reward of the rollout": ("reward/model.py", "predict"),
    "each iteration: KL anchor": ("rl/kl_anchor.py", "penalty"),
    "each iteration: guards": ("training/guard.py", "watch"),
    "reports: score": ("training/metrics.py", "behaviour_metrics"),
    "reports: true reward": ("training/metrics.py", "true_reward"),
    "checkpoints": ("runs/run.py", "save_checkpoint"),
    "start": ("training/parts.py", "prepare"),
}


def plain(steps: int, out: str) -> None:
    pretrain(PretrainConfig("HalfCheetah-v5", total_steps=steps, out=out))


def on_preferences(steps: int, out: str) -> None:
    guard = GuardConfig(alarm="warn")  # an alarm must not cut the run short
    finetune(FinetuneConfig(
        "halfcheetah", oracle="backward", labels=100, total_steps=steps, out=out, guard=guard,
        shrink=0.1, reference=ReferenceConfig("round", beta=0.02),
    ))  # fmt: skip


LEARNERS = {"plain": plain, "preferences": on_preferences}


def seconds(learner: str, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        LEARNERS[learner](steps, f"{folder}/run")
        return time.perf_counter() - started


def profile(steps: int) -> dict[str, Any]:
    """Seconds under cProfile: in all, and by what preferences add."""
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder:
        profiler.runcall(on_preferences, steps, f"{folder}/run")
    stats: dict[tuple[str, int, str], tuple] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    cumulative: dict[tuple[str, str], float] = {}
    for (file, _, function), (_, _, _, spent, _) in stats.items():
        if "rlhf_control" in Path(file).parts:
            cumulative["/".join(Path(file).parts[-2:]), function] = spent
    parts = {name: cumulative[place] for name, place in PREFERENCES.items() if place in cumulative}
    return {"steps": steps, "total": cumulative["train.py", "finetune"], "parts": parts}


def table(result: dict[str, Any]) -> str:
    profiled = result["profile"]
    lines = [
        "# What preferences cost beside plain PPO",
        "",
        "HalfCheetah-v5, 100 answers, an ensemble of 5; by turns, medians, and the range of the ratio.",
        "",
        "| steps | turns | plain PPO, s | fine-tuning, s | so many times as long |",
        "|---:|---:|---:|---:|---:|",
    ]
    for steps, run in result["runs"].items():
        plain, preferences = (np.median(run["seconds"][name]) for name in LEARNERS)
        ratios = np.array(run["ratios"])
        spread = f"**{np.median(ratios):.2f}** ({ratios.min():.2f} to {ratios.max():.2f})"
        lines.append(f"| {int(steps):,} | {len(ratios)} | {plain:.1f} | {preferences:.1f} | {spread} |")
    lines += [
        "",
        f"| of a fine-tuning of {profiled['steps']:,} steps under cProfile | share |",
        "|---|---:|",
        *(f"| {name} | {spent / profiled['total']:.1%} |" for name, spent in profiled["parts"].items()),
        "",
        f"`{result['command']}`, commit {result['git_commit'][:12]}, {result['cores']} cores, {result['processor']}.",
    ]
    return "\n".join(lines)


def by_turns(steps: int, turns: int) -> dict[str, Any]:
    """Seconds of both learners, and the ratio of each turn."""
    took: dict[str, list[float]] = {name: [] for name in LEARNERS}
    for turn in range(turns):
        for learner in list(LEARNERS)[:: 1 if turn % 2 == 0 else -1]:
            took[learner].append(seconds(learner, steps))
        print(f"{steps:,} steps, turn {turn + 1}: {took['preferences'][-1] / took['plain'][-1]:.2f} times", flush=True)
    return {"seconds": took, "ratios": [a / b for a, b in zip(took["preferences"], took["plain"], strict=True)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for learner in LEARNERS:  # compiles what is to be compiled
        seconds(learner, 40_960)
    result = {
        "command": as_called(),
        **environment_facts(),
        "runs": {str(steps): by_turns(steps, arguments.turns) for steps in arguments.steps},
        "profile": profile(arguments.steps[0]),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "preference_overhead.json").write_text(json.dumps(result) + "\n")
    (arguments.out / "preference_overhead.md").write_text(table(result) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
