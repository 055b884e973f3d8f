"""Can a hundred comparisons change how others' robots do what they can do, without their forgetting it?

Fetch of Gymnasium-Robotics, which was trained to reach, is to come down on its goal from above; MetaWorld's arm, which
was trained to reach, is to carry its hand high. Each from 100 answers of the behaviour's oracle, and beside it
from the oracle's own reward at every step (the upper bound, without an anchor) and from coin flips (the control). In
how many of 10 fresh episodes a seed the old task is done at any step stands beside the behaviour's score. Votes are
held near the policy that is begun with, which the script trains first. Fetch's episodes have 25 steps, a second: in
those of 50 it is at its goal most of the time, clips look alike, and the guard let nothing be learned (seed 100).

Found: votes move Fetch little (three seeds of five; the interval begins at the score before) and MetaWorld's hand in
four of five, at the price of the reach in about as many episodes: its goals lie lower than the hand is to be carried.
That anchor (beta 0.7) was chosen on these very seeds, so the row is the better for it. Held three times as near (2.0)
it keeps 87 % of them, and the score stays at 0.20 (0.07 to 0.23; in the JSON).

Command: .venv-robotics/bin/python experiments/robot_styles.py     (after `make .venv-robotics/installed`)
         (--behaviours hand-high --seeds 0-4 --runs runs/robot_styles)
Cost:    30 runs of 45 to 60 s of one core, and two policies to begin with; a stopped one goes on where it was
Result:  results/robot_styles.json and .md, and the learning curves in robot_styles.png and .pdf
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, add_place, bolder, keep, keep_table, kept_shares, make_runs, plot_by_task, score_cells

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.robots import FETCH_ID, METAWORLD_ID
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig, ReferenceConfig
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import parse_seeds

FETCH_PPO = PPOConfig(num_envs=16, num_steps=50, minibatch_size=80, gamma=0.95)
METAWORLD_PPO = PPOConfig(num_envs=16, num_steps=100, minibatch_size=100)
REACH: dict[str, bool | int | float | str] = {"env_name": "reach-v3", "max_episode_steps": 200}
STARTS = {  # the policies that know the old task
    "reach-from-above": PretrainConfig(FETCH_ID, total_steps=60_000, env={"max_episode_steps": 25}, ppo=FETCH_PPO),
    "hand-high": PretrainConfig(METAWORLD_ID, total_steps=80_000, env=REACH, ppo=METAWORLD_PPO),
}
# Simulators take most of the time, so each of their steps is looked at more often than in other experiments
MORE: dict[str, Any] = {"num_steps": 25, "minibatch_size": 50, "epochs": 15, "lr": 7e-4}
STEPS = 24_000
SECONDS = {"reach-from-above": 0.6, "hand-high": 0.8}  # of a clip
BETA = {"reach-from-above": 0.05, "hand-high": 0.7}
CONDITIONS: dict[str, dict[str, Any]] = {
    "votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin flips": {"oracle": "coin-flip", "guard": GuardConfig(chance="off", alarm="off")},
}


def start(name: str, runs: Path) -> PretrainConfig:
    """The run that trains the policy to begin with."""
    return replace(STARTS[name], seed=0, checkpoint_seconds=30, out=str(runs / f"{name}-start"))


def config(name: str, condition: str, seed: int, runs: Path) -> FinetuneConfig:
    """A behaviour's run under a condition."""
    begun = start(name, runs)
    base = FinetuneConfig(
        begun.out, env_id=begun.env_id, env=begun.env, oracle=name, score=name, labels=100, total_steps=STEPS,
        clip_seconds=SECONDS[name], min_log_std=bolder(begun.out, begun.env_id), seed=seed,
        video=False, checkpoint_seconds=30,
        reference=ReferenceConfig("pretrained", beta=BETA[name]), ppo=replace(begun.ppo, **MORE),
    )  # fmt: skip
    place = runs / f"{name}-{condition.replace(' ', '-').replace(chr(39), '')}-{seed}"
    return replace(base, **CONDITIONS[condition], out=str(place))


def measured(run: FinetuneConfig, when: str) -> dict[str, float]:
    """Score, success and return of fresh episodes "before" or "after", as the run's own report has measured them."""
    found = Run.open(run.out).read_json("results.json")[when]
    return {"score": found["score_mean"], "success": found["success_rate"], "return": found["return_mean"]}


def row(name: str, before: dict[str, float], runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Of the table: interquartile means over seeds, the score's with its 95 % interval."""
    done = ", ".join(f"{share:.0%}" for share in [before["success"], *kept_shares(runs.values())])
    return [*score_cells(name, before, runs), done, BEHAVIOURS[name].unit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behaviours", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/robot_styles"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    make_runs([start(name, arguments.runs) for name in arguments.behaviours], arguments.runs, arguments)
    configs = {
        name: {c: [config(name, c, seed, arguments.runs) for seed in seeds] for c in CONDITIONS}
        for name in arguments.behaviours
    }
    # seed by seed, so that a stopped one has something of everything
    every = [configs[name][c][i] for i in range(len(seeds)) for name in configs for c in CONDITIONS]
    make_runs(every, arguments.runs, arguments)
    earlier = RESULTS / "robot_styles.json"
    kept: dict[str, Any] = json.loads(earlier.read_text())["behaviours"] if earlier.exists() else {}
    for name, conditions in configs.items():
        runs = {c: [measured(run, "after") for run in of_one] for c, of_one in conditions.items()}
        commit = Run.open(conditions["votes"][0].out).read_json("manifest.json")["git_commit"]
        before = measured(conditions["votes"][0], "before")
        kept[name] = {"seeds": seeds, "commit": commit, "before": before, "runs": runs}
        print(*row(name, before, runs), sep=" | ", flush=True)
    keep("robot_styles", {"command": "python experiments/robot_styles.py", **environment_facts(), "behaviours": kept})
    head = [
        "behaviour", "before", "100 votes", "the oracle's reward", "coin flips",
        "old task done before, then so", "score",
    ]  # fmt: skip
    keep_table("robot_styles", head, [row(name, one["before"], one["runs"]) for name, one in kept.items()])
    paths = {name: {c: [Path(run.out) for run in of_one] for c, of_one in by.items()} for name, by in configs.items()}
    plot_by_task(paths, RESULTS / "robot_styles", smooth=1, metric="score", label="score, as the table has it")


if __name__ == "__main__":
    main()
