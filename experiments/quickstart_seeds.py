"""How sure is the quickstart, and how much of it is due to the votes?

The quickstart's run with five seeds, and the same with three other rewards in the learned one's place: the oracle's own
reward at every step (the upper bound), coin-flip answers, and a constant (controls that must gain nothing).

Command: python experiments/quickstart_seeds.py        (--seeds 0 1 2 3 4 --jobs 2)
Cost:    about ten minutes on two cores; a stopped one goes on where it was
Result:  results/quickstart_seeds.json, .png, .pdf and .csv, and the README's results table
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import add_place, interval, make_runs
from quickstart import CONFIG, SEEDS

from rlhf_control.analysis.evaluate import EPISODES, SEED, measure
from rlhf_control.analysis.figures import plot_runs
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run

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


def of_arm(arm: str, arguments: argparse.Namespace) -> list[FinetuneConfig]:
    """An arm's run for each seed."""
    name = arm.replace("'", "").replace(" ", "-")
    config = replace(CONFIG, video=False, **ARMS[arm])
    return [replace(config, seed=s, out=str(arguments.runs / f"{name}-{s}")) for s in arguments.seeds]


def result_of(config: FinetuneConfig) -> dict[str, Any]:
    """What a finished run's report has measured of its final policy: ten fresh episodes without noise."""
    results = Run.open(config.out).read_json("results.json")
    facts = {name: results[name] for name in ("labels", "env_steps", "wall_seconds")}
    return {**results["after"], "seed": config.seed, **facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart_seeds"))
    parser.add_argument("--out", type=Path, default=SEEDS)
    add_place(parser, "--jobs")
    arguments = parser.parse_args()
    configs = {arm: of_arm(arm, arguments) for arm in ARMS}
    every = [config for of_one in configs.values() for config in of_one]
    make_runs(every, arguments.runs, arguments)
    arms = {arm: [result_of(config) for config in of_one] for arm, of_one in configs.items()}
    for arm, results in arms.items():
        print(f"{arm:>16}: {[round(run['score_mean'], 2) for run in results]} m/s backward", flush=True)
    plot_runs([config.out for config in every], arguments.out.with_name("quickstart_seeds"), metrics=["score"])
    before = measure(find_policy(CONFIG.policy), "backward", EPISODES, SEED)
    table = {arm: interval([run["score_mean"] for run in results]) for arm, results in arms.items()}
    jobs = arguments.workers or len(available_cores())
    result = {"command": "python experiments/quickstart_seeds.py", "jobs": jobs, **environment_facts(),
              "before": before, "summary": table, "arms": arms}  # fmt: skip
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
