"""How long until the `fast` preset reaches the return that SB3's defaults reach after a million steps?

The goal of a task is the interquartile mean over seeds of SB3's final return in results/ppo_parity.json. Ours: seconds
from the start of the process until the mean return of the episodes of the last ten iterations that had any is there;
five seeds, one after another, each with the whole machine. SB3: its speed, measured before each of these runs, times a
million steps; its start is not counted. A seed that does not get there counts as never (and the median may be never).

Command: python experiments/time_to_return.py             (--tasks Hopper-v5 --seeds 5-9)
Cost:    ten minutes on two idle cores
Result:  results/time_to_return.json: see README
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, episodes, keep

from rlhf_control.bench import Peer
from rlhf_control.runs import Run, environment_facts
from rlhf_control.seeds import parse_seeds

WINDOW = 10  # iterations


def seconds_to(goal: float, env_id: str, seed: int) -> float | None:
    """From the start of the process; None if the run ends without."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "rlhf_control", "pretrain", env_id, "--preset", "fast", "--seed", str(seed)]
        started = time.time()
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        starting = (out / "config.json").stat().st_mtime - started  # until the run's clock began
        steps, returns = episodes(out)
        means = np.convolve(returns, np.ones(WINDOW) / WINDOW, "valid")
        there = np.flatnonzero(means >= goal)
        if not len(there):
            return None
        reached = steps[there[0] + WINDOW - 1]
        return starting + next(r["wall_seconds"] for r in Run.open(out).metrics() if r["env_steps"] == reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"])
    parser.add_argument("--seeds", default="0-4")
    arguments = parser.parse_args()
    parity = json.loads((RESULTS / "ppo_parity.json").read_text())["tasks"]
    tasks: dict[str, Any] = {}
    for env_id in arguments.tasks:
        goal = parity[env_id]["sb3"]["iqm"]
        seeds = {}
        with Peer("sb3", sys.executable, env_id, 256) as sb3:
            for seed in parse_seeds(arguments.seeds):
                run = sb3.run(5.0)
                theirs = 1e6 * run["seconds"] / run["steps"]
                ours = seconds_to(goal, env_id, seed)
                seeds[seed] = {"ours": ours, "sb3": theirs}
                print(env_id, seed, f"goal {goal:.0f}, sb3 {theirs:.0f} s, ours", ours and f"{ours:.1f} s", flush=True)
        ratios = [s["sb3"] / s["ours"] if s["ours"] else 0.0 for s in seeds.values()]
        tasks[env_id] = {"goal": goal, "seeds": seeds, "ratio": float(np.median(ratios))}
        own = np.median([s["ours"] or np.inf for s in seeds.values()])
        theirs = np.median([s["sb3"] for s in seeds.values()])
        print(f"| {env_id} | {goal:.0f} | {theirs:.0f} | {own:.0f} | **{np.median(ratios):.0f}** "
              f"({min(ratios):.0f} to {max(ratios):.0f}) |", flush=True)  # fmt: skip
    if arguments.seeds == "0-4":
        keep(
            "time_to_return", {"command": "python experiments/time_to_return.py", **environment_facts(), "tasks": tasks}
        )


if __name__ == "__main__":
    main()
