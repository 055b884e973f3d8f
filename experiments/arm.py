"""Can a hundred comparisons change how the arm does what it can do, without its forgetting what?

From the shipped policies, which grasp the block and open the door, to each of the arm's behaviours: with 100 answers of
its oracle about 1.5-second clips (3 of the door), with the oracle's own reward at every step (the upper bound) and with
coin flips (the control). Beside the behaviour's score stands in how many episodes the old task is still done at any
step, of 50 fresh ones, and which share the votes had of what the oracle's reward gained in itself while training. The
anchor is the shipped policy, since what it can do is wanted: lifting high alone leads away from the goal. Its weight
was chosen on seeds 100 and 101: policies as precise as these are 20 nats a step away by the time they have learned a
manner, and at 0.01 do not come to it.

Found: votes have 21 (low-elbow) to 72 % (from-above) of what the oracle's reward gains in itself, less of the scores.
What the critic's view has in it: critics_view.py. With five times the weight and no such view (an earlier measurement,
five seeds) scores were 0.25, 0.29, 0.23, 0.07 and 0.06, in the order of the table.

Command: python experiments/arm.py                (--behaviours gentle careful-door --seeds 0-4 --runs runs/arm)
Cost:    15 runs a behaviour, each 20 to 30 s of one core; a stopped one goes on where it was
Result:  results/arm.json and .md, and the learning curves in arm.png and .pdf; README.md here says what they show
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, add_place, bolder, keep, keep_table, kept_shares, make_runs, plot_by_task, score_cells, told

from rlhf_control.analysis.evaluate import SEED, measure
from rlhf_control.behaviours.arm import DOOR_ID, GRASP_ID
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig, GuardConfig, ReferenceConfig
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.training.continuing import hyperparameters

LONGER = {"careful-door": 3.0}  # seconds of a clip: in half of that no door is seen to open and stay
STARTS = {GRASP_ID: "armgrasp", DOOR_ID: "armdoor"}
NAMES = [name for name, behaviour in BEHAVIOURS.items() if behaviour.env_id in STARTS]
EPISODES = 50
CONDITIONS: dict[str, dict[str, Any]] = {
    "votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin flips": {"oracle": "coin-flip", "guard": GuardConfig(chance="off", alarm="off")},
}


def config(name: str, condition: str, seed: int, runs: Path) -> FinetuneConfig:
    """A behaviour's run under a condition."""
    policy = STARTS[BEHAVIOURS[name].env_id]
    base = FinetuneConfig(
        policy, oracle=name, score=name, labels=100, total_steps=150_000, video=False, checkpoint_seconds=30, seed=seed,
        clip_seconds=LONGER.get(name, 1.5), min_log_std=bolder(policy),
        reference=ReferenceConfig("pretrained", beta=0.002),
        ppo=replace(hyperparameters(policy), num_envs=64, minibatch_size=128, epochs=8),  # twice as many iterations
    )  # fmt: skip
    place = runs / f"{name}-{condition.replace(' ', '-').replace(chr(39), '')}-{seed}"
    return replace(base, **CONDITIONS[condition], out=str(place))


def measured(policy: str, name: str) -> dict[str, float]:
    """Score and success of fresh episodes."""
    found = measure(find_policy(policy), name, EPISODES, SEED)
    return {"score": found["score_mean"], "success": found["success_rate"], "return": found["return_mean"]}


def own_reward(run: FinetuneConfig) -> tuple[float, float]:
    """Returns the behaviour's own reward a step of the sampling policy, in the first and the last tenth of a run."""
    rewards = [row["true_reward"] for row in Run.open(run.out).metrics()]
    tenth = max(1, len(rewards) // 10)
    return float(np.mean(rewards[:tenth])), float(np.mean(rewards[-tenth:]))


def gained(votes: list[FinetuneConfig], oracles: list[FinetuneConfig]) -> list[float]:
    """Returns by seed which share of what the oracle's reward gained, in itself, the votes did."""
    pairs = [(own_reward(ours), own_reward(its)) for ours, its in zip(votes, oracles, strict=True)]
    return [(ours[1] - ours[0]) / (its[1] - its[0]) for ours, its in pairs]


def row(name: str, before: dict[str, float], runs: dict[str, list[dict[str, float]]], gains: list[float]) -> list[str]:
    """Of the table: interquartile means over seeds and their 95 % intervals."""
    shares = [before["success"], *kept_shares([runs["votes"], runs["oracle's reward"]])]
    done = ", ".join(f"{share:.0%}" for share in shares)
    return [*score_cells(name, before, runs), done, told(gains, ".0%"), BEHAVIOURS[name].unit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behaviours", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/arm"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    configs = {
        name: {c: [config(name, c, seed, arguments.runs) for seed in seeds] for c in CONDITIONS}
        for name in arguments.behaviours
    }
    # seed by seed, so that a stopped one has something of everything
    every = [configs[name][c][i] for i in range(len(seeds)) for name in configs for c in CONDITIONS]
    make_runs(every, arguments.runs, arguments)
    earlier = RESULTS / "arm.json"
    kept: dict[str, Any] = json.loads(earlier.read_text())["behaviours"] if earlier.exists() else {}
    for name, conditions in configs.items():
        runs = {c: [measured(run.out, name) for run in of_one] for c, of_one in conditions.items()}
        commit = Run.open(conditions["votes"][0].out).read_json("manifest.json")["git_commit"]
        before = measured(STARTS[BEHAVIOURS[name].env_id], name)
        gains = gained(conditions["votes"], conditions["oracle's reward"])
        kept[name] = {"seeds": seeds, "commit": commit, "before": before, "runs": runs, "gained": gains}
        print(*row(name, before, runs, gains), sep=" | ", flush=True)
    keep("arm", {"command": "python experiments/arm.py", **environment_facts(), "behaviours": kept})
    head = [
        "behaviour", "before", "100 votes", "the oracle's reward", "coin flips", "success before, votes, oracle",
        "share of the gain in the oracle's reward", "score",
    ]  # fmt: skip
    keep_table("arm", head, [row(name, one["before"], one["runs"], one["gained"]) for name, one in kept.items()])
    paths = {name: {c: [Path(run.out) for run in of_one] for c, of_one in by.items()} for name, by in configs.items()}
    plot_by_task(paths, RESULTS / "arm", smooth=8, metric="score", label="score, as the table has it")


if __name__ == "__main__":
    main()
