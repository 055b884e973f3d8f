"""Does our PPO solve the arm's three tasks, with every seed, in minutes?

The preset `tuned` (chosen on seeds 100 and 101), the whole command timed from its start to the saved policy. Success is
measured at the end of 500 fresh episodes of the final policy without exploration noise.

Command: python experiments/arm_tasks.py          (--tasks rlhf/ArmGrasp-v0 --seeds 0-4 --runs runs/arm_tasks)
Cost:    9 runs, 20 s (Reach), 70 s (Door) or 2.5 minutes (Grasp) of one core each; goes on where it was stopped
Result:  results/arm_tasks.json and .md, and the learning curves in arm_tasks.png and .pdf
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, curve, interval, keep, make_tasks, minutes, plot_by_task, task_arguments

from rlhf_control.config import PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.simulation.rollouts import fresh_episodes

TASKS = ("rlhf/ArmReach-v0", "rlhf/ArmDoor-v0", "rlhf/ArmGrasp-v0")
EPISODES, SEED = 500, 77_777


def measured(config: PretrainConfig) -> dict[str, Any]:
    """A run's success, return, minutes and curve."""
    run = Path(config.out)
    found = fresh_episodes(find_policy(run), EPISODES, seed=SEED, observations=False)
    done = np.array([episode.success for episode in found.segments])  # all are of the same length
    return {
        "seed": config.seed,
        "success": float(done[:, -1].mean()),
        "success_at_any_step": float(done.any(axis=1).mean()),
        "return": float(np.mean(found.returns)),
        "minutes": minutes(run),
        **curve(run),
    }


def row(env_id: str, steps: int, runs: list[dict[str, Any]]) -> str:
    """Of the table: every seed's success, the interquartile mean of the returns, the slowest run's time."""
    found = interval([run["return"] for run in runs])
    success = ", ".join(f"{100 * run['success']:.1f}" for run in runs)
    slowest = max(run["minutes"] for run in runs)
    returns = f"{found['iqm']:.0f} ({found['low']:.0f} to {found['high']:.0f})"
    return f"| {env_id} | {steps / 1e6:g}M | {success} | {returns} | {slowest:.1f} |"


def main() -> None:
    arguments = task_arguments(__doc__, "arm_tasks", TASKS, "0-2")
    configs = make_tasks(arguments, lambda env_id: preset(env_id, "tuned"))
    tasks = {env_id: [measured(config) for config in of_task] for env_id, of_task in configs.items()}
    rows = [row(env_id, configs[env_id][0].total_steps, runs) for env_id, runs in tasks.items()]
    print("\n".join(rows))
    if arguments.tasks == list(TASKS):
        keep("arm_tasks", {"command": "python experiments/arm_tasks.py", **environment_facts(), "tasks": tasks})
        head = "| task | steps | success by seed, % of 500 episodes | return | minutes, the slowest |"
        (RESULTS / "arm_tasks.md").write_text("\n".join([head, f"|---{'|---:' * 4}|", *rows]) + "\n")
        folders = {env_id: {"tuned": [Path(config.out) for config in of_task]} for env_id, of_task in configs.items()}
        plot_by_task(folders, RESULTS / "arm_tasks")


if __name__ == "__main__":
    main()
