"""Can a hundred comparisons teach each of the fourteen behaviours of Gymnasium's robots?

From policies that run: HalfCheetah's is the shipped one, of the others `pretrain --preset tuned` makes one a seed. With
100 answers of the behaviour's oracle, with its own reward at every step (the upper bound, without an anchor) and with
coin flips (the control, without guards). What is near the old skill keeps it, with more noise to try things; the rest
forgets it (--shrink 0.1), as in the quickstart. Of Walker2d and Ant everything keeps it, and falls end an episode and
cost (--termination penalty): with a fixed horizon they lie on the floor most of the time, whatever is asked for (seed
100). They cost 2 standard deviations of the learned reward (--end-costs) all along, for what is new takes daring; that
answers tell it came later. A backflip ends where falls do, so Hopper does not end early. Scores are of whole
episodes, whatever falls. Some are asked 50 questions as well.

Command: python experiments/behaviours.py              (--behaviours jump stand --seeds 0-4 --runs runs/behaviours)
Cost:    some 230 runs of 15 to 40 s of one core, and 15 policies to begin with; a stopped one goes on where it was
Result:  results/behaviours.json, .md, .png and .pdf, five seeds (HalfCheetah's earlier, on another processor)
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, add_place, bolder, interval, keep, keep_table, make_runs, told
from label_table import FALL_SOON, SHORT, start_of
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rlhf_control.analysis.axes import BLUE, GREEN, GREY, VERMILLION, WIDTH, style
from rlhf_control.analysis.evaluate import EPISODES, SEED, measure
from rlhf_control.analysis.figures import save_figure
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig, GuardConfig, PretrainConfig
from rlhf_control.errors import guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import parse_seeds

CHEETAH = "HalfCheetah-v5"
NAMES = [name for name, b in BEHAVIOURS.items() if b.env_id in (CHEETAH, "Hopper-v5", "Walker2d-v5", "Ant-v5")]
KEEP = ("keep-pace", "prowl")  # the old skill is part of it; as it is of all that falls
FALL = ("Walker2d-v5", "Ant-v5")
END_COSTS = 2.0  # what is new takes daring
FEWER = ("keep-pace", "flip", "backflip", "stand")  # asked about with 50 answers too
START_STEPS = 200_000
CONDITIONS: dict[str, dict[str, Any]] = {
    "100 votes": {},
    "oracle's reward": {"learn_from": "oracle"},
    "coin flips": {"oracle": "coin-flip", "guard": GuardConfig(chance="off", alarm="off")},
    "50 votes": {"labels": 50, "first_labels": 10},
}


def start(name: str, seed: int, runs: Path) -> PretrainConfig | None:
    """The run that trains the policy to begin with; None: it is shipped."""
    env_id = BEHAVIOURS[name].env_id
    if env_id == CHEETAH:
        return None
    return start_of(env_id, "pretrained", seed, argparse.Namespace(runs=runs, start_steps=START_STEPS))


def config(name: str, condition: str, seed: int, arguments: argparse.Namespace) -> FinetuneConfig:
    """A behaviour's run under a condition."""
    begun, env_id = start(name, seed, arguments.starts), BEHAVIOURS[name].env_id
    policy, falls = begun.out if begun else "halfcheetah", env_id in FALL
    keeps = falls or name in KEEP
    base = FinetuneConfig(
        policy, oracle=name, score=name, seed=seed, total_steps=250_000, video=False, checkpoint_seconds=60,
        guard=GuardConfig(alarm="warn"), clip_seconds=SHORT if env_id in FALL_SOON else 1.5,
        termination="penalty" if falls else "fixed-horizon" if begun else "refuse",
        shrink=1.0 if keeps else 0.1, min_log_std=bolder(policy) if keeps else None, end_costs=END_COSTS,
        learn_end_costs=False,
    )  # fmt: skip
    place = arguments.runs / f"{name}-{condition.replace(' ', '-').replace(chr(39), '')}-{seed}"
    return replace(base, **CONDITIONS[condition], out=str(place))


def conditions(name: str, among: Sequence[str]) -> list[str]:
    """Those of a behaviour."""
    return [c for c in CONDITIONS if c == "100 votes" or (c in among and (c != "50 votes" or name in FEWER))]


def score(run: FinetuneConfig, policy: str) -> float:
    """The behaviour's score of a policy in a run's folder, over fresh whole episodes without noise."""
    path, kept = Path(run.out), f"score-{policy}.json"
    if not (path / kept).is_file():
        acting = find_policy(path / policy)
        if acting.env_id != CHEETAH:
            acting.env = {**acting.env, "terminate_when_unhealthy": False}
        found = measure(acting, run.score, EPISODES, SEED)
        Run.open(path).write_json(kept, found)
    return float(Run.open(path).read_json(kept)["score_mean"])


def row(name: str, one: dict[str, Any]) -> list[str]:
    """Of the table: interquartile means over seeds and their 95 % intervals."""
    cells = [told(one["scores"][c]) if c in one["scores"] else "" for c in CONDITIONS]
    return [name, f"{interval(one['before'])['iqm']:.2f}", *cells, BEHAVIOURS[name].unit]


def draw(kept: Mapping[str, Any], out: Path) -> None:
    """Of each behaviour the scores before and by condition: interquartile means, their 95 % intervals, and seeds."""
    columns = {"before": GREY, "100 votes": BLUE, "oracle's reward": VERMILLION, "coin flips": GREEN}
    names = [name for name in NAMES if name in kept]
    with style():
        fig = Figure((WIDTH, 0.5 + 1.4 * -(-len(names) // 5)), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05))
        axes = fig.subplots(-(-len(names) // 5), 5, squeeze=False).ravel()
        for ax, name in zip(axes, names, strict=False):
            scores = {"before": kept[name]["before"], **kept[name]["scores"]}
            for x, (column, color) in enumerate(columns.items()):
                if column in scores:
                    at = interval(scores[column])
                    ends = [[abs(at["iqm"] - at["low"])], [abs(at["high"] - at["iqm"])]]
                    ax.plot([x] * len(scores[column]), scores[column], "o", color=color, markersize=2, alpha=0.4)
                    ax.errorbar([x], [at["iqm"]], ends, color=color, marker="o", markersize=4, capsize=2, label=column)
            ax.set_title(name, fontsize=8)
            ax.set_xticks([])
        for ax in axes[len(names) :]:
            ax.remove()
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
        fig.supylabel("score, as the table has it", fontsize=8)
        save_figure(fig, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behaviours", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/behaviours"))
    parser.add_argument("--starts", type=Path, help="folder of the policies to begin with (default: that of --runs)")
    add_place(parser)
    arguments = parser.parse_args()
    arguments.starts = arguments.starts or arguments.runs
    seeds = parse_seeds(arguments.seeds)
    begun = {s.out: s for name in arguments.behaviours for i in seeds if (s := start(name, i, arguments.starts))}
    lacking = [s for s in begun.values() if not (Path(s.out) / "policy.npz").is_file()]
    if lacking:
        make_runs(lacking, arguments.starts, arguments)
    configs = {
        name: {c: [config(name, c, seed, arguments) for seed in seeds] for c in conditions(name, arguments.conditions)}
        for name in arguments.behaviours
    }
    # seed by seed, so that a stopped one has something of everything
    make_runs(
        [of_one[i] for i in range(len(seeds)) for by in configs.values() for of_one in by.values()],
        arguments.runs, arguments,
    )  # fmt: skip
    earlier = RESULTS / "behaviours.json"
    kept: dict[str, Any] = json.loads(earlier.read_text())["behaviours"] if earlier.exists() else {}
    for name, by in configs.items():
        before = [score(run, "pretrained.npz") for run in by["100 votes"]]
        scores = {c: [score(run, "policy.npz") for run in of_one] for c, of_one in by.items()}
        commit = Run.open(Path(by["100 votes"][0].out)).read_json("manifest.json")["git_commit"]
        if name in kept and kept[name]["seeds"] == seeds:  # under other conditions
            scores = {**kept[name]["scores"], **scores}
        made = {"commit": commit, "processor": environment_facts()["processor"]}
        kept[name] = {"seeds": seeds, **made, "before": before, "scores": scores}
        print(*row(name, kept[name]), sep=" | ", flush=True)
    keep("behaviours", {"command": "python experiments/behaviours.py", **environment_facts(), "behaviours": kept})
    head = ["behaviour", "before", "100 votes", "the oracle's reward", "coin flips", "50 votes", "score"]
    keep_table("behaviours", head, [row(name, kept[name]) for name in NAMES if name in kept])
    draw(kept, RESULTS / "behaviours")


if __name__ == "__main__":
    sys.exit(guarded(main))
