"""How long does the `fast` preset take to what SB3's defaults reach after a million steps?

Ours: the whole process, from its start to the saved policy, compilation included, for five seeds one after another,
each with the whole machine; the return is that of the final policy without noise, 20 fresh episodes, interquartile
mean over seeds. SB3: its speed, measured beside each of these runs, times a million steps (its start is not counted),
and the return of the runs of ppo_parity.py in the same way.

Command: python experiments/time_to_return.py             (--tasks Hopper-v5 --seeds 5-9)
Cost:    ten minutes on two idle cores
Result:  results/time_to_return.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, curve, keep, over_seeds

from rlhf_control.bench.peers import Peer
from rlhf_control.runs.machine import environment_facts
from rlhf_control.sweeps.seeds import parse_seeds

TRAIN = "import sys; from rlhf_control.cli import parse; from rlhf_control import PretrainConfig, pretrain; "
TRAIN += "pretrain(parse(PretrainConfig, 'pretrain', sys.argv[1:]))"


def run_fast(env_id: str, seed: int, folder: str) -> dict[str, Any]:
    """The run's curve, and its seconds from the start of the process to its end, with nothing compiled beforehand."""
    out = Path(folder) / str(seed)
    arguments = [env_id, "--preset", "fast", "--seed", str(seed), "--out", str(out)]
    env = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache-{seed}"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", TRAIN, *arguments], check=True, env=env)
    seconds = time.perf_counter() - started
    return {**curve(out), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"])
    parser.add_argument("--seeds", default="0-4")
    arguments = parser.parse_args()
    parity = json.loads((RESULTS / "ppo_parity.json").read_text())["tasks"]
    tasks: dict[str, Any] = {}
    for env_id in arguments.tasks:
        ours, theirs = {}, {}
        with Peer("sb3", sys.executable, env_id, 256) as sb3, tempfile.TemporaryDirectory() as folder:
            for seed in parse_seeds(arguments.seeds):
                run = sb3.run(5.0)
                theirs[seed] = 1e6 * run["seconds"] / run["steps"]
                ours[seed] = run_fast(env_id, seed, folder)
        ratios = [theirs[seed] / ours[seed]["seconds"] for seed in ours]
        goal, reached = parity[env_id]["sb3"]["mode"], over_seeds(ours.values())["mode"]
        tasks[env_id] = {"sb3": goal, "fast": reached, "ratio": ratios, "sb3_seconds": theirs, "seeds": ours}
        seconds = np.median([run["seconds"] for run in ours.values()])
        sides = [f"{x['iqm']:.0f} ({x['low']:.0f} to {x['high']:.0f})" for x in (goal, reached)]
        print(f"| {env_id} | {sides[0]} | {np.median(list(theirs.values())):.0f} | {sides[1]} | {seconds:.0f} "
              f"| **{np.median(ratios):.0f}** ({min(ratios):.0f} to {max(ratios):.0f}) |", flush=True)  # fmt: skip
    if arguments.seeds == "0-4":
        earlier = RESULTS / "time_to_return.json"
        kept = json.loads(earlier.read_text())["tasks"] if earlier.exists() else {}
        facts = {"command": "python experiments/time_to_return.py", **environment_facts()}
        keep("time_to_return", {**facts, "tasks": {**kept, **tasks}})


if __name__ == "__main__":
    main()
