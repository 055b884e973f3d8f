"""What does learning from preferences cost in time, beside plain PPO?

Fine-tuning on 100 answers of a synthetic oracle, an ensemble of 5, against PPO on the environment's reward: the same
PPO, steps and environments, by turns on an otherwise idle machine; the ratio of each turn, its median and range. Then
one more fine-tuning under cProfile, which slows Python's own work more than the rest, for where the time goes.

Command: python experiments/preference_overhead.py     (--steps 250000 --turns 5)
Cost:    five minutes on two idle cores
Result:  results/preference_overhead.md and .json
"""

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS

from rlhf_control.config import FinetuneConfig, GuardConfig, PretrainConfig
from rlhf_control.runs import environment_facts
from rlhf_control.train import finetune, pretrain

PREFERENCES = {  # what plain PPO does not do, or does less of -> the function's file and name
    "asking: choosing clips": ("asking.py", "make_queries"),
    "asking: answers, and their way to the disk": ("labels.py", "ask"),
    "asking: clips put together for the fit": ("labels.py", "answers"),
    "asking: pool of clips": ("segments.py", "pool"),
    "asking: older clips kept": ("segments.py", "archive"),
    "learning: fit of the ensemble": ("reward.py", "fit"),
    "learning: its uncertainty": ("reward.py", "uncertainty"),
    "learning: values after a fit": ("ppo.py", "fit_value"),
    "each iteration: reward of the rollout": ("reward.py", "predict"),
    "each iteration: KL anchor": ("anchor.py", "penalty"),
    "each iteration: guards": ("guards.py", "watch"),
    "reports: score": ("train.py", "behaviour_metrics"),
    "reports: true reward": ("train.py", "true_reward"),
    "checkpoints": ("runs.py", "save_checkpoint"),
    "start": ("train.py", "prepare"),
}


def plain(steps: int, out: str) -> None:
    pretrain(PretrainConfig("HalfCheetah-v5", total_steps=steps, out=out))


def on_preferences(steps: int, out: str) -> None:
    guard = GuardConfig(alarm="warn")  # an alarm must not cut the run short
    finetune(FinetuneConfig("halfcheetah", oracle="backward", labels=100, total_steps=steps, out=out, guard=guard))


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
            cumulative[Path(file).name, function] = spent
    parts = {name: cumulative[place] for name, place in PREFERENCES.items() if place in cumulative}
    return {"total": cumulative["train.py", "finetune"], "parts": parts}


def table(result: dict[str, Any]) -> str:
    took, ratios, profiled = result["seconds"], np.array(result["ratios"]), result["profile"]
    medians = {name: float(np.median(times)) for name, times in took.items()}
    lines = [
        "# What preferences cost beside plain PPO",
        "",
        f"HalfCheetah-v5, {result['steps']:,} steps, 100 answers, an ensemble of 5; {len(ratios)} turns. Plain PPO "
        f"took {medians['plain']:.1f} s, fine-tuning {medians['preferences']:.1f} s (medians): "
        f"**{np.median(ratios):.2f}** times as long ({ratios.min():.2f} to {ratios.max():.2f}).",
        "",
        "| of a fine-tuning under cProfile | share |",
        "|---|---:|",
        *(f"| {name} | {spent / profiled['total']:.1%} |" for name, spent in profiled["parts"].items()),
        "",
        f"`{result['command']}`, commit {result['git_commit'][:12]}, {result['cores']} cores, {result['processor']}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for learner in LEARNERS:  # compiles what is to be compiled
        seconds(learner, 40_960)
    took: dict[str, list[float]] = {name: [] for name in LEARNERS}
    for turn in range(arguments.turns):
        for learner in list(LEARNERS)[:: 1 if turn % 2 == 0 else -1]:
            took[learner].append(seconds(learner, arguments.steps))
        print(f"turn {turn + 1}: {took['preferences'][-1] / took['plain'][-1]:.2f} times as long", flush=True)
    result = {
        "command": f"python experiments/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
        **environment_facts(),
        "steps": arguments.steps,
        "seconds": took,
        "ratios": [a / b for a, b in zip(took["preferences"], took["plain"], strict=True)],
        "profile": profile(arguments.steps),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "preference_overhead.json").write_text(json.dumps(result) + "\n")
    (arguments.out / "preference_overhead.md").write_text(table(result) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
