"""Can comparisons teach a game's player a style that the score does not ask for, without its forgetting the score?

home: the shipped policy of Bricks, which reads numbers, learns to keep the paddle near the middle (tidiness), in games
that only end after 1,000 steps, from 200 answers of its oracle. calm: the shipped policy of Orchard, which sees planes
and hardly ever rests, learns to take fewer needless steps (pace).
scratch: a fresh player of Bricks, which reads numbers, learns to play from 500 comparisons of the bricks in two
three-second clips and nothing else; its score is that of whole games, of three balls, of 18 bricks.
Beside each the oracle's own reward at every step, coin flips and a constant (the controls).

Scores are of 20 fresh episodes of the final policy, which draws its actions as it did in training: without noise, games
hang. Interquartile mean over seeds and its 95 % interval. The hyperparameters were chosen on seed 100.

Found: from scratch 500 votes make 16.7 of 18 bricks (15.1 to 17.6) out of 1.1, more than the oracle's own reward in as
many steps, 12.4 (10.0 to 15.1); in training, where a missed ball costs nothing but time, they are nearer, at 49 and 47
bricks in 1,000 steps. Coin flips make 0.9, a constant 1.0 (five seeds).
home is learned from 200 votes (0.19 to 0.24; 0.27 from the oracle's own reward, 0.15 from coin flips; five seeds) at
2 % of the score. With minibatches of 512 it came to 0.22 at 12 % of the score, and a guard stopped one seed of four.

calm is not learned from votes, and has no place in the results. Its oracle was the game's score at first: 0.05 of a
fruit for a step at rest decided no answer about the shipped player's clips (its returns had a correlation of 0.99 with
the score's and of -0.2 with resting). On four seeds the oracle's reward then made 0.21 out of 0.06 at 1 % of the score,
and 200 votes no more than coin flips, 0.08. Now a needless step costs 0.2, one that brings the player no nearer to a
fruit and yet elsewhere: 94 % of the answers go to the clip with fewer of those, and the oracle's reward makes 0.34 on
seed 100. Votes make there 0.11, 0.16 with a weaker anchor (beta 0.03; as here), 0.06 with that and twice the steps,
0.09 with clips of a second, 0.08 with rollouts of whole episodes: the learned reward knows the states where clips are
good (a correlation of 0.6 with the oracle's over a clip), and hardly what an action does to it (0.2 at a step). The
action is 5 of its 517 inputs.

The other styles, tried on seed 100 from the oracle's reward alone: savour 0.15 to 0.23 in 80,000 steps, at 5 % of the
score; tidy, wary and (300,000 steps) steep stay where they are; daring 0.06 to 0.11, at a quarter of the score; hurry
is at 0.8 from the start.

Command: python experiments/games.py               (--tasks home scratch calm --seeds 0-4 --runs runs/games)
Cost:    home 3 minutes, scratch 5, calm 20 of one core; a stopped one goes on where it was
Result:  results/games.json and .md; learning curves go into games_TASK.png and .pdf
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import EPISODES, RESULTS, add_place, interval, keep, make_runs, plot_by_task
from label_table import fresh

from rlhf_control.analysis.evaluate import SEED, measure
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig, ReferenceConfig, RewardConfig
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import parse_seeds

PLAYER = PPOConfig(num_envs=16, num_steps=128, minibatch_size=128, epochs=8, lr=1e-3, entropy_coef=0.01)
TASKS = {
    # far-sighted, it would rather keep the fruits: where there are many, clips are liked
    "calm": FinetuneConfig(
        "orchard-planes", oracle="calm", score="calm", labels=200, first_labels=60, rounds=6, clip_seconds=2.0,
        total_steps=40_960, reference=ReferenceConfig("pretrained", beta=0.03),
        ppo=PPOConfig(num_envs=32, num_steps=64, minibatch_size=256, epochs=4, lr=5e-4, gamma=0.9),
    ),
    "home": FinetuneConfig(
        "bricks", oracle="home", score="home", labels=200, first_labels=60, clip_seconds=2.0, total_steps=200_000,
        termination="fixed-horizon", reward=RewardConfig(obs_parts=("0:5",)),  # paddle and ball, but not the 18 bricks
        guard=GuardConfig(alarm="warn"),
        ppo=PPOConfig(num_envs=64, num_steps=64, minibatch_size=128, epochs=6, lr=1e-3),
    ),
    "scratch": FinetuneConfig(
        "", oracle="env", labels=500, first_labels=100, clip_seconds=3.0, total_steps=204_800,
        termination="fixed-horizon", guard=GuardConfig(alarm="warn"), ppo=PLAYER,
    ),
}  # fmt: skip
CONDITIONS: dict[str, dict[str, Any]] = {
    "votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin flips": {"oracle": "coin-flip", "guard": GuardConfig(chance="off", alarm="off")},
    "a constant": {"learn_from": "constant"},
}


def runs_of(task: str, seed: int, runs: Path) -> dict[str, FinetuneConfig]:
    """A seed's runs, by condition."""
    base = replace(TASKS[task], seed=seed, video=False, checkpoint_seconds=60)
    if task == "scratch":
        base = replace(base, policy=fresh_player(seed, runs))
    places = {c: str(runs / f"{task}-{c.replace(' ', '-').replace(chr(39), '')}-{seed}") for c in CONDITIONS}
    return {c: replace(base, **options, out=places[c]) for c, options in CONDITIONS.items()}


def fresh_player(seed: int, runs: Path) -> str:
    """The folder of an untrained policy of Bricks, which is made if it is not there."""
    start = PretrainConfig("rlhf/Bricks-v0", total_steps=1, seed=seed, ppo=PLAYER, out=str(runs / f"fresh-{seed}"))
    if not (Path(start.out) / "policy.npz").is_file():
        fresh(start)
    return start.out


def of_run(run: FinetuneConfig, task: str) -> dict[str, float]:
    """What a finished run's policy is measured at, which is kept beside it."""
    kept = Path(run.out) / "measured.json"
    if not kept.is_file():
        Run.open(run.out).write_json(kept.name, measured(find_policy(run.out), task))
    return dict(Run.open(run.out).read_json(kept.name))


def measured(policy: Policy, task: str) -> dict[str, float]:
    """Scores of fresh episodes: the style's, where there is one, and the game's."""
    if task != "calm":
        policy.env = {**policy.env, "terminate_when_unhealthy": task == "scratch"}
    found = measure(policy, TASKS[task].score, EPISODES, SEED, deterministic=False)
    return {"score": found.get("score_mean", found["return_mean"]), "return": found["return_mean"]}


def row(task: str, before: list[dict[str, float]], runs: dict[str, list[dict[str, float]]]) -> str:
    """Of the table: a style's score, then the game's."""
    cells = [task]
    for name in ("score", "return"):
        for of_one in (before, *(runs.get(condition) for condition in CONDITIONS)):
            if of_one is None:
                cells.append("")
                continue
            found = interval([run[name] for run in of_one])
            same = not found["low"] < found["high"]  # of one or of equal runs
            cells.append(f"{found['iqm']:.2f}" + ("" if same else f" ({found['low']:.2f} to {found['high']:.2f})"))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["home", "scratch"])
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/games"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    configs = {task: [runs_of(task, seed, arguments.runs) for seed in seeds] for task in arguments.tasks}
    # seed by seed, so that a stopped one has something of everything
    every = [run for i in range(len(seeds)) for of_task in configs.values() for run in of_task[i].values()]
    make_runs(every, arguments.runs, arguments)
    earlier = RESULTS / "games.json"
    found: dict[str, Any] = json.loads(earlier.read_text())["tasks"] if earlier.exists() else {}
    for task, of_seeds in configs.items():
        starts = list(dict.fromkeys(of_seed["votes"].policy for of_seed in of_seeds))  # of a style there is one
        before = [measured(find_policy(start), task) for start in starts]
        runs = {c: [of_run(of_seed[c], task) for of_seed in of_seeds] for c in of_seeds[0]}
        commit = Run.open(of_seeds[0]["votes"].out).read_json("manifest.json")["git_commit"]
        found[task] = {
            "seeds": seeds, "commit": commit, "before": before, "runs": runs,
            "seconds": {c: [Run.open(s[c].out).metrics()[-1]["wall_seconds"] for s in of_seeds] for c in runs},
        }  # fmt: skip
        print(row(task, before, runs), flush=True)
    keep("games", {"command": "python experiments/games.py", **environment_facts(), "tasks": found})
    conditions = " | ".join(CONDITIONS)
    lines = [f"| | style before | {conditions} | game's score before | {conditions} |", f"|---{'|---:' * 10}|"]
    lines += [row(task, one["before"], one["runs"]) for task, one in found.items()]
    (RESULTS / "games.md").write_text("\n".join(lines) + "\n")
    for task, of_seeds in configs.items():
        paths = {c: [Path(of_seed[c].out) for of_seed in of_seeds] for c in of_seeds[0]}
        metric = "env_return" if task == "scratch" else "score"
        plot_by_task({task: paths}, RESULTS / f"games_{task}", smooth=4, metric=metric, label="while training")


if __name__ == "__main__":
    main()
