"""How much of what the oracle's own reward would bring do so many votes bring?

Tasks x votes x seeds, from a policy that `pretrain --preset tuned` made in --start-steps steps and from a fresh one.
Every run has a partner that differs from it in --learn-from oracle alone: the same seed, start and number of steps, and
the oracle's reward at every step. With `before` and `oracle` the returns of the start and of the partner, a run's
return r counts (r - before) / (oracle - before): 0 is as good as nothing, 1 as good as the reward itself. Seeds whose
partner gains less than ROOM of its return leave no room to tell, and are counted apart. A return is the mean over 20
fresh episodes of the run's own environment, without exploration noise (and beside it with, for whether a robot falls
may hang on little); over seeds there are the interquartile mean and its 95 % bootstrap interval. A seed whose partner
gains little has a wild share, so beside it stands the share of all seeds together, the sum of the gains over the sum of
the partners', with pairs resampled. Early ends are treated alike in all arms (--termination, where a task has them;
clips are shorter where episodes are); but with `penalty` the learned reward alone pays what answers say of them.

Command: python experiments/label_table.py              (--quick: two tasks, two seeds, 100 votes, from pretraining)
Cost:    all of it some 30 core-hours, --quick a quarter of one; the same command goes on with what was stopped
Result:  results/label_table.json, of 250,000 steps, on an AMD EPYC, of 100 votes, in parts with their commands:
         ten seeds together, shares of 0.90 (HalfCheetah; 0.83 to 0.98), 1.83 (Hopper; 1.21 to 3.08), 1.59
         (Walker2d; 1.02 to 2.74), 0.97 (Ant; 0.82 to 1.11), 1.21 (Swimmer; 1.04 to 1.44) and, with exploration
         noise, 0.98 (HumanoidStandup; 0.89 to 1.05); with 20 % of the votes wrong 1.39 (Walker2d), 0.44 (Ant) and
         0.34 (Swimmer); and --as-before 0.91 (HalfCheetah), 1.26 (Swimmer; 1.12 to 1.51), 0.31 (HumanoidStandup;
         -0.53 to 0.73; with noise 0.75), 1.52, 1.20 and 0.85 (Hopper, Walker2d, Ant), with 20 % of the votes wrong
         0.84, 1.69, 0.69, 0.50 and 0.70, and from a fresh policy, five seeds, 1.11, 0.78, 1.65, -0.28 (with
         noise 0.80) and 1.10
         results/label_table_intel.json, on an Intel Xeon, as before but with answers that say what an end costs ("not
         rescaled"), ten seeds: 1.34 (Hopper; 0.97 to 1.82), 1.14 (Walker2d; 0.90 to 1.49) and 0.77 (Ant; 0.64 to 0.91),
         with exploration noise 1.49, 1.35 and 0.91; and as before 1.02 (HalfCheetah), 1.32, 0.96, 0.65, 1.18 (Swimmer)
         and, of five seeds, -0.42 (HumanoidStandup); both processors' (--beside) have 0.96, 1.41, 1.09, 0.76 and 1.23
         results/label_table_votes.json and .png (--name label_table_votes) have 20 to 200 votes, five seeds
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import EPISODES, RESULTS, add_place, alarm, as_called, earlier, has_line, interval, keep, make_runs
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rlhf_control.analysis.axes import BLUE, DASHES, GREY, VERMILLION, WIDTH, style
from rlhf_control.analysis.evaluate import SEED
from rlhf_control.analysis.figures import save_figure
from rlhf_control.analysis.statistics import RESAMPLES
from rlhf_control.config import AnnotatorConfig, FinetuneConfig, GuardConfig, PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.errors import guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.vector import start_envs
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.train import finetune, pretrain, resume

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Swimmer-v5", "HumanoidStandup-v5")
END_EARLY = ("Hopper-v5", "Walker2d-v5", "Ant-v5")
FALL_SOON = END_EARLY[:2]  # whose first episodes have no clip of the usual length
SHORT, SHORTEST = 0.5, 0.1  # seconds of a clip of these, and of one of a fresh policy's, which falls at once
VOTES = (0, 20, 50, 100, 200)  # 0: the start as it is
STARTS = ("pretrained", "scratch")
QUICK = {"tasks": TASKS[:2], "seeds": "0-1", "votes": (0, 100), "starts": STARTS[:1], "steps": 100_000}
ROOM = 0.05


# -- the runs


def start_of(env_id: str, start: str, seed: int, arguments: argparse.Namespace) -> PretrainConfig:
    """The policy to start from, in a folder of its own. One from scratch knows how it is to be trained, no more."""
    steps = arguments.start_steps if start == "pretrained" else 1
    out = arguments.runs / f"{env_id}-{start}-{steps}-{seed}"
    return replace(preset(env_id, "tuned"), seed=seed, total_steps=steps, out=str(out), checkpoint_seconds=60)


def arm(start: PretrainConfig, votes: int | str, arguments: argparse.Namespace) -> FinetuneConfig:
    """A run of so many votes from a start, with "oracle" its partner, or with "coin flips" 100 of these."""
    voted, flips = isinstance(votes, int), votes == "coin flips"
    labels, wrong = (int(votes), arguments.mistake) if voted else (100, 0.0)
    termination: Any = arguments.termination if start.env_id in END_EARLY else "refuse"
    seconds = FinetuneConfig("").clip_seconds
    if termination == "penalty" and start.env_id in FALL_SOON:
        seconds = SHORT if start.total_steps > 1 else SHORTEST
    out = f"{start.out}-{arguments.steps}-{arguments.termination}-{votes}" + (f"-{wrong:g}" if wrong else "")
    out += "-before" if arguments.as_before else ""
    return FinetuneConfig(
        start.out, oracle="coin-flip" if flips else "env", labels=labels, first_labels=max(1, labels // 5),
        clip_seconds=seconds, total_steps=arguments.steps, seed=start.seed,
        out=out.replace(" ", "-"), video=False, annotator=AnnotatorConfig(mistake=wrong), checkpoint_seconds=60,
        guard=GuardConfig(alarm="warn", chance="off" if flips else "hold"), termination=termination,
        learn_from="oracle" if votes == "oracle" else "votes", learn_end_costs=not arguments.as_before,
        rescale_value=not arguments.as_before, stagger=not arguments.as_before,
    )  # fmt: skip


def arms_of(arguments: argparse.Namespace) -> list[int | str]:
    """The arms beside that of no votes."""
    return ["oracle", *(["coin flips"] if arguments.coin_flips else []), *filter(None, arguments.votes)]


def make(config: PretrainConfig | FinetuneConfig) -> int:
    """Makes a run, or goes on with it, and leaves the return of its policy in its folder."""

    def work() -> None:
        path = Path(config.out)
        if (path / "config.json").is_file():
            run = resume(path)
        elif isinstance(config, FinetuneConfig):
            run = finetune(config)
        elif config.total_steps == 1:
            run = fresh(config)
        else:
            run = pretrain(config)
        run.write_json("result.json", {"returns": evaluate(find_policy(run.path), EPISODES, seed=SEED)[0]})
        if isinstance(config, FinetuneConfig):
            with_noise(config)

    return guarded(work)


def with_noise(config: FinetuneConfig, policy: str = "policy.npz") -> float:
    """The return of a policy in a run's folder with the noise that it explores by."""
    run, name = Run.open(Path(config.out)), f"noisy-{Path(policy).stem}.json"
    if not (run.path / name).is_file():
        found = find_policy(run.path / policy)
        run.write_json(name, {"returns": evaluate(found, EPISODES, seed=SEED, deterministic=False)[0]})
    return float(np.mean(run.read_json(name)["returns"]))


def fresh(config: PretrainConfig) -> Run:
    """Leaves an untrained policy that says how it is to be trained."""
    envs = start_envs(config.env_id, 1, seed=0, env=config.env)
    run = Run.create(Path(config.out), "pretrain", config, env_id=config.env_id)
    Policy(envs.spaces, config.net, config.seed, config.env_id, config.env).save(
        run.path / "policy.npz", config=asdict(config)
    )
    envs.close()
    return run


def make_lacking(configs: Iterable[PretrainConfig | FinetuneConfig], arguments: argparse.Namespace) -> None:
    """Makes those that have no return yet."""
    lacking = [config for config in configs if not (Path(config.out) / "result.json").is_file()]
    if lacking:
        make_runs(lacking, arguments.runs, arguments, make)


# -- the table


def returned(config: PretrainConfig | FinetuneConfig) -> float:
    return float(np.mean(Run.open(Path(config.out)).read_json("result.json")["returns"]))


def commits_of(configs: Iterable[FinetuneConfig]) -> str:
    """Those that these runs were made by."""
    return ", ".join(sorted({Run.open(Path(c.out)).read_json("manifest.json")["git_commit"] for c in configs}))


def alarmed(config: FinetuneConfig) -> bool:
    """Tells whether the alarm, which here only warns, goes off in a run by today's thresholds."""
    run = Path(config.out)
    return alarm(Run.open(run).metrics(), GuardConfig(), line=has_line(run)) is not None


def in_its_own(start: PretrainConfig, partner: FinetuneConfig) -> float:
    """The return of a start in the environment that its runs are evaluated in."""
    path = Path(partner.out) / "before.json"
    if not path.is_file():
        policy = find_policy(Path(partner.out) / "pretrained.npz")
        Run.open(path.parent).write_json("before.json", {"returns": evaluate(policy, EPISODES, seed=SEED)[0]})
    return float(np.mean(Run.open(path.parent).read_json("before.json")["returns"]))


def together(before: Sequence[float], votes: Sequence[float], oracle: Sequence[float]) -> dict[str, float | None]:
    """The share of the oracle's gain that the votes had, of all seeds together, and its 95 % bootstrap interval over
    pairs of runs. Where the oracle's gain may be nothing (in 2.5 % of the samples) there is no interval: None."""
    gains = np.stack([np.subtract(votes, before), np.subtract(oracle, before)])  # (2, R)
    chosen = stream(0, "together").integers(len(before), size=(RESAMPLES, len(before)))
    of_votes, of_oracle = gains[:, chosen].sum(-1)
    shares = np.where(of_oracle > 0, of_votes / np.where(of_oracle > 0, of_oracle, 1), np.inf)
    low, high = np.quantile(shares, [0.025, 0.975], method="closest_observation")
    ends = {"low": float(low), "high": float(high)} if np.isfinite(high) else {"low": None, "high": None}
    return {"share": float(gains[0].sum() / gains[1].sum()), **ends}


def row(starts: Sequence[PretrainConfig], arguments: argparse.Namespace) -> dict[str, Any]:
    """All returns of a task and a kind of start, and the shares of the oracle's gain over seeds."""
    partners = [arm(start, "oracle", arguments) for start in starts]
    before = [in_its_own(start, partner) for start, partner in zip(starts, partners, strict=True)]
    arms: dict[str, list[float]] = {
        str(v): [returned(arm(start, v, arguments)) for start in starts] for v in arms_of(arguments)
    }
    noisy_before = [with_noise(partner, "pretrained.npz") for partner in partners]
    noisy = {str(v): [with_noise(arm(s, v, arguments)) for s in starts] for v in arms_of(arguments)}
    alarms = {v: sum(alarmed(arm(start, int(v), arguments)) for start in starts) for v in arms if v.isdigit()}
    gains = np.subtract(arms["oracle"], before)
    room = gains > ROOM * np.maximum(np.abs(arms["oracle"]), np.abs(before))
    shares = {
        votes: ((np.array(values) - before) / np.where(room, gains, 1))[room].tolist() for votes, values in arms.items()
    }
    return {
        "seeds": [start.seed for start in starts], "before": before, "returns": arms, "no room": int((~room).sum()),
        "alarms": alarms, "shares": shares,
        "over seeds": {votes: interval(values) for votes, values in shares.items() if values},
        "together": {votes: together(before, values, arms["oracle"]) for votes, values in arms.items()},
        "with noise": {
            "before": noisy_before, "returns": noisy,
            "together": {votes: together(noisy_before, values, noisy["oracle"]) for votes, values in noisy.items()},
        },
    }  # fmt: skip


def of_both(found: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The shares of all seeds together of a row of two processors, on which the same seeds come to other policies."""
    before, returns = found["before"] + other["before"], found["returns"]
    both = {arm: returns[arm] + other["returns"][arm] for arm in returns if arm in other["returns"]}
    return {arm: together(before, values, both["oracle"]) for arm, values in both.items()}


def draw(rows: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Of each row the share of the oracle's gain over the number of votes, of all seeds together, with its interval;
    dashed what coin flips come to."""
    columns = min(3, len(rows))
    height = -(-len(rows) // columns)
    with style():
        fig = Figure((WIDTH, 0.4 + 1.6 * height), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05))  # inches
        axes = fig.subplots(height, columns, squeeze=False).ravel()
        for ax, (name, found) in zip(axes, rows.items(), strict=False):
            shares = {int(v): x for v, x in found["together"].items() if v.isdigit()}
            votes, y = sorted(shares), [shares[v]["share"] for v in sorted(shares)]
            none = {v for v, x in shares.items() if x["low"] is None}
            low, high = ([np.nan if v in none else abs(shares[v][end] - shares[v]["share"]) for v in votes]
                         for end in ("low", "high"))  # fmt: skip
            ax.axhline(1, color=GREY, linewidth=0.7)
            if "coin flips" in found["together"]:
                ax.axhline(found["together"]["coin flips"]["share"], color=VERMILLION, linestyle=DASHES[1], linewidth=1)
            ax.errorbar([0, *votes], [0, *y], [[0, *low], [0, *high]], color=BLUE, marker="o", markersize=3, capsize=2)
            ax.set_ylim(-0.5, 3)
            ax.set_title(name, fontsize=8)
        for ax in axes[len(rows) :]:
            ax.remove()
        flips = any("coin flips" in found["together"] for found in rows.values())
        fig.supxlabel("votes" + " (dashed: 100 coin flips)" * flips, fontsize=8)
        fig.supylabel("share of the gain by the reward itself", fontsize=8)
        save_figure(fig, out)


def tell(name: str, found: Mapping[str, Any]) -> None:
    """Lines of the table."""
    shares = {"": found["together"], ", with noise": found["with noise"]["together"],
              ", both processors": found.get("both processors", {})}  # fmt: skip
    for how, of in shares.items():
        ends = {v: "no interval" if x["low"] is None else f"{x['low']:.2f} to {x['high']:.2f}" for v, x in of.items()}
        if cells := [f"{v}: {x['share']:.2f} ({ends[v]})" for v, x in of.items()]:
            print(f"{name}{how}: {'; '.join(cells)}", flush=True)
    print(f"{name}: no room for {found['no room']} of {len(found['seeds'])} seeds", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small version; the other options change it")
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--votes", nargs="+", type=int)
    parser.add_argument("--seeds")
    parser.add_argument("--starts", nargs="+", choices=STARTS)
    parser.add_argument("--steps", type=int, help="of a fine-tuning")
    parser.add_argument("--start-steps", type=int)
    parser.add_argument("--termination", choices=("fixed-horizon", "truncate", "penalty", "allow"), default="penalty")
    parser.add_argument(
        "--as-before", action="store_true",
        help="a step that an end leaves out costs six standard deviations, whatever votes say; critics are not "
        "rescaled, episodes not staggered",
    )  # fmt: skip
    parser.add_argument("--coin-flips", action="store_true", help="an arm of answers that say nothing, without guards")
    parser.add_argument("--mistake", type=float, default=0.0, help="share of the votes that are wrong")
    parser.add_argument(
        "--beside", type=Path, help="a result of another processor, to tell the shares of both together"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/label_table"))
    add_place(parser)
    parser.add_argument("--name", default="label_table", help="of the file among the results")
    arguments = parser.parse_args()
    whole = {"tasks": TASKS, "seeds": "0-9", "votes": VOTES, "starts": STARTS, "steps": 400_000}
    for name, value in (QUICK if arguments.quick else whole).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.start_steps = arguments.start_steps or arguments.steps // 2
    settings = {name: getattr(arguments, name) for name in ("steps", "start_steps", "termination")}
    settings["unhealthy_seconds"] = FinetuneConfig("").unhealthy_seconds
    beside = earlier(arguments.beside, "rows", settings) if arguments.beside else {}
    if arguments.beside and not beside:
        parser.error(f"{arguments.beside} has no rows of these settings; leave --beside out")
    seeds = parse_seeds(arguments.seeds)
    starts = {
        (task, start): [start_of(task, start, seed, arguments) for seed in seeds]
        for start in arguments.starts for task in arguments.tasks
    }  # fmt: skip
    make_lacking((s for some in starts.values() for s in some), arguments)
    arms = [arm(s, votes, arguments) for votes in arms_of(arguments)
            for seed in seeds for some in starts.values() for s in some if s.seed == seed]  # fmt: skip
    make_lacking(arms, arguments)
    wrong = f", {arguments.mistake:.0%} mistakes" if arguments.mistake else ""
    wrong += ", as before" if arguments.as_before else ""
    command = as_called()
    rows = {
        f"{task}, {start}{wrong}": {
            "command": command,
            "commit": commits_of(arm(s, v, arguments) for v in arms_of(arguments) for s in some),
            **row(some, arguments),
        }
        for (task, start), some in starts.items()
    }
    for name, found in rows.items():
        if name in beside:
            found["both processors"] = of_both(found, beside[name])
        tell(name, found)
    rows = earlier(RESULTS / f"{arguments.name}.json", "rows", settings) | rows
    if any(len(found["together"]) > 3 for found in rows.values()):  # more than the oracle, 100 votes and coin flips
        draw(rows, RESULTS / arguments.name)
    keep(arguments.name, {"command": command, **environment_facts(), **settings, "rows": rows})


if __name__ == "__main__":
    sys.exit(guarded(main))
