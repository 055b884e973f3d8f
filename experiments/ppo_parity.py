"""Does our PPO learn what Stable-Baselines3's learns, at its defaults?

A million steps of three tasks, five seeds, both learners under SB3's default hyperparameters (its batch of 2,048 steps
collected from 8 environments) and the same normalisation of observations and rewards. Compared are the mean return of
the final policy without exploration noise, 20 fresh episodes, and that of the sampling policy's episodes in the last
tenth of a run; interquartile mean over seeds and its 95 % bootstrap interval.

Command: python experiments/ppo_parity.py                 (--learners ppo --seeds 5-9 --tasks Ant-v5)
Cost:    two hours on two cores, nearly all of them SB3's; a stopped one goes on where it was
Result:  results/ppo_parity.json, with the curves, .png and .pdf: see README.md here
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, add_place, curve, keep, make_runs, over_seeds, plot_by_task

from rlhf_control.config import PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.runs.machine import environment_facts
from rlhf_control.sweeps.seeds import parse_seeds

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
LEARNERS = {"ppo": "ours", "sb3": "SB3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=list(LEARNERS))
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/ppo_parity"))
    add_place(parser)
    arguments = parser.parse_args()
    configs = {(env_id, learner): of_learner(env_id, learner, arguments)
               for env_id in arguments.tasks for learner in arguments.learners}  # fmt: skip
    make_runs((config for of_one in configs.values() for config in of_one.values()), arguments.runs, arguments)
    tasks: dict[str, Any] = {}
    folders: dict[str, dict[str, list[Path]]] = {}
    for env_id in arguments.tasks:
        for learner in arguments.learners:
            runs = {seed: Path(config.out) for seed, config in configs[env_id, learner].items()}
            folders.setdefault(env_id, {})[LEARNERS[learner]] = list(runs.values())
            curves = {str(seed): curve(run) for seed, run in runs.items()}
            summary = over_seeds(curves.values())
            tasks.setdefault(env_id, {})[learner] = {**summary, "seeds": curves}
            cells = [f"{s['iqm']:.0f} ({s['low']:.0f} to {s['high']:.0f})" for s in summary.values()]
            print(f"| {env_id} | {LEARNERS[learner]} | {' | '.join(cells)} |", flush=True)
    if list(tasks) == list(TASKS) and set(arguments.learners) == set(LEARNERS):
        command = f"python experiments/ppo_parity.py --seeds {arguments.seeds}"
        keep("ppo_parity", {"command": command, **environment_facts(), "tasks": tasks})
        plot_by_task(folders, RESULTS / "ppo_parity")


def of_learner(env_id: str, learner: Any, arguments: argparse.Namespace) -> dict[int, PretrainConfig]:
    """A learner's run of a task for each seed."""
    config = replace(preset(env_id, "sb3"), learner=learner, total_steps=arguments.steps)
    out = arguments.runs / f"{learner}-{env_id}"
    return {seed: replace(config, seed=seed, out=f"{out}-{seed}") for seed in parse_seeds(arguments.seeds)}


if __name__ == "__main__":
    main()
