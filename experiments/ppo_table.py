"""What does PPO reach on Gymnasium's MuJoCo tasks, version 5, over seeds?

Every task under the `tuned` preset of rlhf_control/config/presets.py, five seeds that were not tuned on, 1M steps. A
run's score is the mean return of its final policy, without exploration noise, over 20 fresh episodes: interquartile
mean over seeds and its 95 % bootstrap interval. "In training" is the same of the sampling policy's episodes in the last
tenth of the run. The other columns are published figures at 1M steps (sources below; Tianshou's is the best average
during a run), on older versions of the tasks: only HalfCheetah and Swimmer are the same in v3, v4 and v5.

Command: python experiments/ppo_table.py                  (--tasks Hopper-v5 --seeds 5-9)
Cost:    an hour and a half on two cores, a third of it the two humanoids'; a stopped one goes on where it was
Result:  results/ppo_table.json, .md, .png and .pdf
"""

import json
from pathlib import Path
from typing import Any

from common import RESULTS, curve, keep, make_tasks, over_seeds, plot_by_task, task_arguments

from rlhf_control.config.presets import TUNED, preset
from rlhf_control.runs.machine import environment_facts

SOURCES = {
    "SB3 zoo, v3, 1 run": "https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md",
    "CleanRL, v4, 3 seeds": "https://docs.cleanrl.dev/rl-algorithms/ppo/",
    "Tianshou, v3, 10 seeds": "https://github.com/thu-ml/tianshou/tree/master/examples/mujoco",
}
PUBLISHED: dict[str, tuple[float | None, float | None, float | None]] = {  # in the order of SOURCES
    "HalfCheetah-v5": (5819, 1443, 5784),
    "Hopper-v5": (2410, 2383, 2609),
    "Walker2d-v5": (3479, 2288, 3589),
    "Ant-v5": (1327, None, 3258),  # CleanRL has 1824 after 8M steps
    "Humanoid-v5": (None, 716, 787),
    "Swimmer-v5": (282, None, 67),  # CleanRL has 125 after 8M steps
    "Reacher-v5": (None, -4.65, -4.1),
    "InvertedDoublePendulum-v5": (None, 5626, 9231),
}


def main() -> None:
    arguments = task_arguments(__doc__, "ppo_table", TUNED, "0-4")
    configs = make_tasks(arguments, lambda env_id: preset(env_id, "tuned"))
    tasks: dict[str, Any] = {}
    folders: dict[str, dict[str, list[Path]]] = {}
    for env_id in arguments.tasks:
        runs = {str(config.seed): Path(config.out) for config in configs[env_id]}
        curves = {seed: curve(run) for seed, run in runs.items()}
        tasks[env_id] = {**over_seeds(curves.values()), "seeds": curves}
        folders[env_id] = {"tuned": list(runs.values())}
        print(row(env_id, tasks[env_id]), flush=True)
    if arguments.seeds == "0-4":
        earlier = RESULTS / "ppo_table.json"
        kept = json.loads(earlier.read_text())["tasks"] if earlier.exists() else {}
        tasks = {env_id: {**kept, **tasks}[env_id] for env_id in TUNED if env_id in {**kept, **tasks}}
        keep("ppo_table", {"command": "python experiments/ppo_table.py", **environment_facts(), "tasks": tasks})
        (RESULTS / "ppo_table.md").write_text(table(tasks) + "\n")
    if arguments.tasks == list(TUNED):
        plot_by_task(folders, RESULTS / "ppo_table")


def row(env_id: str, task: dict[str, Any]) -> str:
    """Of the table; bold where the interquartile mean is above every published figure."""
    mode, training = task["mode"], task["training"]
    digits = 0 if abs(mode["iqm"]) >= 100 else 2
    published = PUBLISHED.get(env_id, (None, None, None))
    iqm, low, high, sampled = (f"{x:.{digits}f}" for x in (*mode.values(), training["iqm"]))
    above = [mode["iqm"] > p for p in published if p is not None]
    iqm = f"**{iqm}**" if above and all(above) else iqm
    columns = " | ".join("" if p is None else f"{p:g}" for p in published)
    return f"| {env_id} | {iqm} | {low} to {high} | {sampled} | {TUNED[env_id].total_steps / 1e6:g}M | {columns} |"


def table(tasks: dict[str, Any]) -> str:
    head = f"| task | ours: IQM | 95 % interval | in training | steps | {' | '.join(SOURCES)} |\n|---|{'---:|' * 7}\n"
    return head + "\n".join(row(env_id, task) for env_id, task in tasks.items())


if __name__ == "__main__":
    main()
