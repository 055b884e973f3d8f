"""Do comparisons teach how a game is played, and a game from nothing?

Bricks, a paddle and a ball. First a matter of style: a policy that plays well learns to come home, to have the paddle
in the middle whenever the ball is on its way up (`home` in behaviours/games.py), from 200 comparisons of two-second
clips; beside it the oracle's reward at every step (the upper bound), coin flips and a constant (controls that must gain
nothing). Score: the share of steps in which the paddle is within 10 pixels of the middle, times the share of balls that
are returned. Then the game itself, from a policy that knows nothing: 500 comparisons by the number of bricks. Score:
the bricks of 1000 steps, in which the wall comes back whenever it is gone.

What the policies see is `--view`. Balls that are missed end
nothing (`--termination fixed-horizon`), or an episode's length would tell the task.

Command: python experiments/games.py       (--part style or scratch, --seeds 0 1 2 3 4, --view state)
Cost:    see results/games.json; a stopped one goes on where it was
Result:  results/games.md and games.json
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, interval

from rlhf_control.analysis.evaluate import EPISODES, SEED, measure
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.errors import Stopped, guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.pool import LocalPool, RunCell, cores_for, run_cells
from rlhf_control.train import finetune, pretrain, resume

GAME = "rlhf/Bricks-v0"
LEARNER = PPOConfig(num_envs=16, num_steps=128, minibatch_size=128, epochs=8, lr=1e-3, entropy_coef=0.01)
# Without guards, for what they would stop is to be measured
STYLE = FinetuneConfig(
    "bricks", oracle="home", labels=200, first_labels=40, rounds=6, total_steps=122_880, clip_seconds=2.0, video=False,
    termination="fixed-horizon", guard=GuardConfig(chance="off", alarm="off"),
)  # fmt: skip
SCRATCH = replace(STYLE, oracle="env", labels=500, first_labels=100, rounds=8, total_steps=204_800, ppo=LEARNER)
ARMS: dict[str, dict[str, Any]] = {
    "votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin flips": {"oracle": "coin-flip"},
    "constant": {"learn_from": "constant"},
}


def make(config: FinetuneConfig) -> int:
    """Makes one run, or goes on with it."""
    path = Path(config.out)

    def work() -> None:
        if (path / "config.json").is_file():
            resume(path)
        else:
            finetune(config)

    return guarded(work)


def make_all(configs: list[FinetuneConfig], workers: int) -> None:
    """Makes the runs that are not finished yet, seed by seed. Exits, with what is finished kept, if one failed."""
    missing = [config for config in configs if not (Path(config.out) / "policy.npz").is_file()]
    try:
        with LocalPool(make, cores_for(workers)) as pool:
            failed = run_cells(pool, [RunCell(c.out, c) for c in missing], lambda *_: None)
    except Stopped:
        sys.exit("stopped; the same command goes on")
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}; the same command makes them again")


def untrained(arguments: argparse.Namespace) -> str:
    """The folder of a policy that has seen one rollout, and learned nothing from it."""
    out = str(arguments.runs / f"untrained-{arguments.view}")
    ppo = replace(LEARNER, lr=1e-9, epochs=1)
    net = NetConfig() if arguments.view == "state" else NetConfig(encoder="cnn-small", picture_features=128)
    config = PretrainConfig(GAME, total_steps=1, ppo=ppo, net=net, env={"obs": arguments.view}, out=out)
    if not Path(out).exists():
        pretrain(config)
    return out


def of_part(part: str, arguments: argparse.Namespace) -> dict[str, list[FinetuneConfig]]:
    """An arm's run for each seed."""
    base = STYLE if part == "style" else replace(SCRATCH, policy=untrained(arguments))
    if part == "style" and arguments.view != "state":
        base = replace(base, policy=f"bricks-{arguments.view}")
    if arguments.view == "state":  # paddle and ball: what is asked about is nowhere else
        base = replace(base, reward=RewardConfig(obs_parts=("0:5",) if part == "style" else ()))
    arms = {}
    for arm, change in ARMS.items():
        name = f"{part}-{arguments.view}-{arm.replace(chr(39), '').replace(' ', '-')}"
        score = base.oracle if part == "style" else ""
        config = replace(base, score=score, **change)
        arms[arm] = [replace(config, seed=s, out=str(arguments.runs / f"{name}-{s}")) for s in arguments.seeds]
    return arms


def result_of(config: FinetuneConfig, score: str) -> dict[str, Any]:
    """What ten fresh episodes of the final policy give, without noise, and what it cost."""
    run = Run.open(config.out)
    after, last = measure(find_policy(run.path), score, EPISODES, SEED), run.metrics()[-1]
    facts = {name: last[name] for name in ("labels", "env_steps", "wall_seconds")}
    value = after["score_mean"] if score else after["return_mean"]
    return {"seed": config.seed, "value": value, "return_mean": after["return_mean"], **facts}


def measured(part: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Makes the runs of one part, and says what came of them."""
    arms = of_part(part, arguments)
    by_seed = sorted((config for configs in arms.values() for config in configs), key=lambda config: config.seed)
    make_all(by_seed, arguments.workers)
    score = STYLE.oracle if part == "style" else ""
    first = next(iter(arms.values()))[0]
    start = measure(find_policy(Run.open(first.out).path / "pretrained.npz"), score, EPISODES, SEED)
    runs = {arm: [result_of(config, score) for config in configs] for arm, configs in arms.items()}
    return {
        "before": start["score_mean"] if score else start["return_mean"],
        "labels": first.labels, "env_steps": first.total_steps, "view": arguments.view,
        "summary": {arm: interval([run["value"] for run in of_arm]) for arm, of_arm in runs.items()},
        "runs": runs,
    }  # fmt: skip


def table(part: str, result: dict[str, Any]) -> list[str]:
    """Lines of Markdown."""
    what = "share at home x share returned" if part == "style" else "bricks of 1000 steps"
    facts = f"{result['labels']} comparisons, {result['env_steps']:,} steps, view {result['view']}"
    lines = [f"## {part}", "", f"{facts}; before: {result['before']:.2f}.", ""]
    lines += [f"| learns from | {what} | by seed |", "|---|---:|---|"]
    for arm, x in result["summary"].items():
        seeds = ", ".join(f"{run['value']:.2f}" for run in result["runs"][arm])
        lines.append(f"| {arm} | {x['iqm']:.2f} ({x['low']:.2f} to {x['high']:.2f}) | {seeds} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("style", "scratch", "both"), default="both")
    parser.add_argument("--view", choices=("state", "planes", "pixels"), default="state", help="what policies see")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/games"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--workers", type=int, default=len(available_cores()), help="runs side by side")
    arguments = parser.parse_args()
    path = arguments.out / "games.json"
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    for part in ("style", "scratch") if arguments.part == "both" else (arguments.part,):
        parts[f"{part}, {arguments.view}"] = measured(part, arguments)
    command = f"python experiments/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"
    path.write_text(json.dumps({"command": command, **environment_facts(), "parts": parts}, indent=1) + "\n")
    lines = ["# Bricks from comparisons", "", "Interquartile mean over seeds and its 95 % bootstrap interval.", ""]
    lines += [line for name, result in parts.items() for line in table(name.partition(",")[0], result)]
    (arguments.out / "games.md").write_text("\n".join([*lines, f"`{command}`. [Raw numbers](games.json)."]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(guarded(main))
