"""How sure is the quickstart, and how much of it is due to the votes?

The quickstart's run with five seeds, and the same with three other rewards in the learned one's place: the oracle's own
reward at every step (the upper bound), coin-flip answers, and a constant (controls that must gain nothing).

Command: python experiments/quickstart_seeds.py        (--seeds 0 1 2 3 4 --jobs 2)
Cost:    about ten minutes on two cores
Result:  results/quickstart_seeds.json, .png, .pdf and .csv, and the README's results table
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from quickstart import CONFIG, SEEDS

from rlhf_control.analysis.evaluate import measure
from rlhf_control.analysis.figures import plot_runs
from rlhf_control.analysis.statistics import bootstrap_interval, interquartile_mean
from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.config.commands import EvaluateConfig
from rlhf_control.interop.policies import find_policy
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.train import finetune

ARMS: dict[str, dict[str, Any]] = {
    "votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin-flip votes": {
        "oracle": "coin-flip",
        "score": "backward",
        "guard": GuardConfig(chance="off", alarm="off"),  # or the policy would stay as it is
    },
    "constant reward": {"learn_from": "constant"},
}


def train_one(values: str) -> None:
    """In a process of its own: trains, measures and leaves result.json in the run's folder."""
    run = finetune(from_dict(FinetuneConfig, json.loads(values)))
    result = measure(find_policy(run.path), "backward", 10, EvaluateConfig("").seed)
    last = run.metrics()[-1]
    run.write_json("result.json", {**result, "seed": CONFIG.seed, "labels": last["labels"],
                                   "env_steps": last["env_steps"], "wall_seconds": last["wall_seconds"]})  # fmt: skip


def train_in_a_process(config: FinetuneConfig) -> dict[str, Any]:
    subprocess.run([sys.executable, __file__, "--one", json.dumps(asdict(config))], check=True)
    return {**Run.open(config.out).read_json("result.json"), "seed": config.seed}


def summary(scores: list[float]) -> dict[str, float]:
    values = np.array(scores)
    low, high = bootstrap_interval(values, stream(0, "bootstrap"))
    return {"iqm": float(interquartile_mean(values)), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--out", type=Path, default=SEEDS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        train_one(arguments.one)
        return
    arms: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        for arm, change in ARMS.items():
            configs = [replace(CONFIG, seed=s, out=f"{folder}/{arm}-{s}", **change) for s in arguments.seeds]
            arms[arm] = list(pool.map(train_in_a_process, configs))
            print(f"{arm:>16}: {[round(run['score_mean'], 2) for run in arms[arm]]} m/s backward", flush=True)
        runs = [f"{folder}/{arm}-{seed}" for arm in ARMS for seed in arguments.seeds]
        plot_runs(runs, arguments.out.with_name("quickstart_seeds"), metrics=["score"])
    before = measure(find_policy(CONFIG.policy), "backward", 10, EvaluateConfig("").seed)
    table = {arm: summary([run["score_mean"] for run in runs]) for arm, runs in arms.items()}
    result = {"command": "python experiments/quickstart_seeds.py", "jobs": arguments.jobs, **environment_facts(),
              "before": before, "summary": table, "arms": arms}  # fmt: skip
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
