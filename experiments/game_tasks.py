"""Does our PPO solve our own games from pictures, with every seed, in minutes?

The preset `tuned` from planes, and from 84 x 84 pixels; and from planes without a CNN, read as 576 numbers by an
update that is compiled (`flat`, chosen on seed 100). A game's own manual says what solved is. Measured are 400 fresh
episodes of the sampling policy: without noise, games hang. The time is that of the whole run on one core, from its
start to the last update, with the CNN's products in bfloat16 where the processor has it; and beside it the processor
time of its process, which other work on the machine stretches less.

Found: from planes Bricks is solved with each of three seeds, in 3.2 minutes (17.3 to 17.8 of 18), Orchard with each of
them in 7.4 of processor time (10.8 to 10.9); without a CNN Bricks comes to 14.5 to 14.7 in 1.6. From 84 x 84 pixels
Bricks is solved with each, in 400,000 steps and 7.2 minutes of processor time (17.2 to 17.5 of 18). Of the pixels' runs
that of seed 0 had both cores of an idle Xeon with AMX, 4.5 minutes, as `rlhf-control pretrain rlhf/Bricks-v0 --preset
tuned --net.precision bfloat16 --total-steps 400000` has; the others, as all of Orchard's, had one core of two that had
other work beside them, which is why they took 8 to 12. Rows of 40 games are of before Orchard was run for longer.

Command: python experiments/game_tasks.py          (--tasks Bricks-pixels --seeds 0-2 --runs runs/game_tasks)
Cost:    2 minutes of one core a seed without a CNN, 3 (Bricks) or 8 (Orchard) from planes, 8 from pixels; goes on
         where it was stopped
Result:  results/game_tasks.json and .md, where seeds measured before stay; learning curves in game_tasks.png and .pdf
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from common import RESULTS, curve, keep, make_tasks, minutes, plot_curves_by_task, task_arguments

from rlhf_control.analysis.curves import Curve
from rlhf_control.cli import one_seed
from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.simulation.rollouts import fresh_episodes

SOLVED = {"Bricks-planes-flat": 16.2, "Bricks-planes": 16.2, "Orchard-planes": 10.8, "Bricks-pixels": 16.2}
FLAT = PPOConfig(
    num_envs=16, num_steps=128, minibatch_size=128, epochs=8, lr=1e-3, gamma=0.98, entropy_coef=0.01
)  # fmt: skip
PLANES = ["Bricks-planes-flat", "Bricks-planes", "Orchard-planes"]
PIXEL_STEPS = 400_000  # less than the preset has: solved is solved
EPISODES, SEED = 400, 77_777
FEWER = 40  # until Orchard was run for longer: a mean of 40 is off by 0.15
PROCESSOR = torch.cpu.get_capabilities()
PRECISION: Literal["float32", "bfloat16"] = (
    "bfloat16" if PROCESSOR.get("avx512_bf16") or PROCESSOR.get("amx_bf16") else "float32"
)  # whichever is faster


def config_of(task: str) -> PretrainConfig:
    """A task's config: the game's preset, and how it is seen."""
    game, view, *flat = task.split("-")
    config = preset(f"rlhf/{game}-v0", "tuned")
    if flat:
        return replace(
            config, env={"obs": view}, total_steps=800_000, net=NetConfig((128, 64), encoder="flat"), ppo=FLAT
        )
    config = replace(config, env={"obs": view}, net=replace(config.net, precision=PRECISION))
    return replace(config, total_steps=PIXEL_STEPS) if view == "pixels" else config


def timed(config: PretrainConfig) -> None:
    """Makes a run, and adds the processor time that it took to a file of its folder."""
    file, started = Path(config.out) / "processor.json", time.process_time()
    one_seed(config)
    earlier = json.loads(file.read_text()) if file.exists() else 0.0
    file.write_text(json.dumps(earlier + time.process_time() - started))


def measured(config: PretrainConfig) -> dict[str, Any]:
    """A run's returns, with noise and (`mode`) without, its minutes and its curve."""
    run = Path(config.out)
    found = fresh_episodes(find_policy(run), EPISODES, seed=SEED, deterministic=False, observations=False)
    return {
        "seed": config.seed,
        "return": float(np.mean(found.returns)),
        "games": EPISODES,
        "minutes": minutes(run),
        "processor_minutes": json.loads((run / "processor.json").read_text()) / 60,
        **curve(run),
    }


def kept_curve(task: str, run: dict[str, Any]) -> Curve:
    """A run's curve, as it is kept in its means."""
    steps, returns = (np.array(run[name], float) for name in ("steps", "returns"))
    metrics = {"env_steps": steps, "env_return": returns}
    return Curve(Path(), "tuned", run["seed"], "pretrain", task, "", "", steps, metrics)


def row(task: str, steps: int, runs: list[dict[str, Any]]) -> str:
    """Of the table: every seed's return, in bold if that is solved, and the slowest run's times."""
    returns = [f"**{run['return']:.1f}**" if run["return"] >= SOLVED[task] else f"{run['return']:.1f}" for run in runs]
    wall, processor = (max(run[name] for run in runs) for name in ("minutes", "processor_minutes"))
    cells = [task, f"{steps / 1e6:g}M", SOLVED[task], runs[0].get("games", FEWER), ", ".join(returns)]
    return f"| {' | '.join(map(str, cells))} | {wall:.1f} | {processor:.1f} |"


def main() -> None:
    arguments = task_arguments(__doc__, "game_tasks", SOLVED, "0-2", PLANES)
    configs = make_tasks(arguments, config_of, timed)
    earlier = RESULTS / "game_tasks.json"
    tasks: dict[str, Any] = json.loads(earlier.read_text())["tasks"] if earlier.exists() else {}
    for task, of_task in configs.items():
        steps, before = of_task[0].total_steps, tasks.get(task, {})
        runs = {run["seed"]: run for run in before.get("runs", []) if before["steps"] == steps}  # of other seeds
        runs |= {config.seed: measured(config) for config in of_task}
        tasks[task] = {"steps": steps, "runs": [runs[seed] for seed in sorted(runs)]}
        print(row(task, **tasks[task]), flush=True)
    facts = {"command": "python experiments/game_tasks.py", **environment_facts(), "precision": PRECISION}
    keep("game_tasks", {**facts, "tasks": tasks})
    head = "| game and view | steps | solved | games | mean, by seed | minutes, the slowest | of processor time |"
    rows = [row(task, **tasks[task]) for task in SOLVED if task in tasks]
    (RESULTS / "game_tasks.md").write_text("\n".join([head, f"|---{'|---:' * 6}|", *rows]) + "\n")
    plot_curves_by_task(
        {task: [kept_curve(task, run) for run in tasks[task]["runs"]] for task in SOLVED if task in tasks},
        RESULTS / "game_tasks",
        smooth=1,
    )


if __name__ == "__main__":
    main()
