"""What the experiments about feedback share: conditions x seeds -> runs -> a table and figures.

Every run starts from the shipped HalfCheetah-v5 policy, which runs forward, as the quickstart does. A run's folder is
named by a digest of all its options: experiments that need the same run share it, and what is finished is kept, so
that a stopped experiment goes on when it is started again. Remove the folder (--runs) to run all of it afresh.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, add_place, as_called, interval, make_runs

from rlhf_control.analysis.curves import Curve, load_curves
from rlhf_control.analysis.evaluate import EPISODES, SEED, measure
from rlhf_control.analysis.figures import plot_each_group, plot_groups, plot_overoptimisation
from rlhf_control.analysis.reward_evaluation import finite, open_run
from rlhf_control.analysis.reward_evaluation import measure as judge
from rlhf_control.behaviours.catalogue import BEHAVIOURS, reward_named
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig, GuardConfig, ReferenceConfig
from rlhf_control.config.commands import EvaluateRewardConfig
from rlhf_control.data import COMPARISON
from rlhf_control.errors import guarded
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import LOOSE, load_policy
from rlhf_control.queries.segments import cut
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.train import finetune, resume

# The quickstart's run, but shorter and with five label rounds, so that conditions differ before they saturate; without
# guards, for what they would stop is to be measured.
BASE = FinetuneConfig(
    "halfcheetah", oracle="backward", labels=100, rounds=5, total_steps=100_000, video=False, checkpoint_seconds=30,
    guard=GuardConfig(chance="off", alarm="off"), shrink=0.1, reference=ReferenceConfig("round", beta=0.02),
)  # fmt: skip
TASKS = {  # what the shipped policy is to learn, and the options that differ from BASE
    "backward": BASE,
    # near the old skill, which is not to be forgotten, and slow to learn
    "keep-pace": replace(BASE, oracle="keep-pace", shrink=1.0, min_log_std=LOOSE, total_steps=250_000),
}
FIRST_SHARE = 0.2  # of the answers, in the first round
EPISODE = 8  # iterations: all environments start their episodes at once, so that one iteration is no fair sample
POINTS = 24  # of a kept curve
CURVES = {"score": "score", "learned": "reward_mean", "true": "true_reward", "kl": "kl_start"}  # kept: name -> metric
METRICS = {  # of a run -> (heading, digits)
    "score": ("score at the end", 2),
    "mean_score": ("mean score over the run", 2),
    "accuracy": ("accuracy on the final policy's pairs", 2),
    "accuracy_before": ("accuracy on the first policy's pairs", 2),
    "ece": ("calibration error on the final policy's pairs", 2),
    "fit_seconds": ("seconds of all fits", 1),
    "wrong": ("wrong answers", 2),
    "ties": ("ties", 2),
    "cannot_tell": ("cannot tell", 2),
    "labels": ("labels", 0),
    "env_return": ("environment return", 0),
    "true_reward": ("true reward at the end", 2),
    "learned_reward": ("learned reward at the end", 2),
    "lost": ("true reward lost since its peak", 2),
    "kl": ("KL from the start (nats)", 1),
    "minutes": ("human minutes", 1),
}

Work = Callable[[FinetuneConfig], object]  # trains a run and measures it
Runs = dict[str, dict[str, dict[str, Any]]]  # condition -> seed -> what `measured` says


@dataclass(frozen=True)
class Part:
    """One table of an experiment and its figures."""

    conditions: Mapping[str, FinetuneConfig]  # of one behaviour and length; the first is what others are held against
    columns: Sequence[str]  # of METRICS
    panels: Sequence[str] = ("score", "mean_score", "accuracy")
    heading: str = ""
    suffix: str = ""  # of the figures' names
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # condition -> columns known beforehand
    overoptimisation: bool = False  # draw learned and true reward too


def options(doc: str | None, tasks: Sequence[str] = tuple(TASKS)) -> argparse.Namespace:
    """The command line, the same for every experiment."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tasks, default="backward")
    parser.add_argument("--steps", type=int, help="of a run (default: the task's)")
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/feedback"), help="where runs are kept and found")
    add_place(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args()


# -- running


def base(arguments: argparse.Namespace) -> FinetuneConfig:
    """The run that conditions are changes of."""
    task = TASKS[arguments.task]
    return replace(task, total_steps=arguments.steps or task.total_steps)


def budget(config: FinetuneConfig, answers: int, **change: Any) -> FinetuneConfig:
    """The same with another number of answers: FIRST_SHARE of them in the first round, all where it is the only one."""
    rounds = change.get("rounds", config.rounds)
    first = answers if rounds == 1 else max(1, round(FIRST_SHARE * answers))
    return replace(config, labels=answers, first_labels=first, **change)


def placed(config: FinetuneConfig, seed: int, runs: Path) -> FinetuneConfig:
    """This seed's run, with its folder."""
    values = asdict(replace(config, seed=0, seeds="", out=""))
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]
    return replace(config, seed=seed, seeds="", out=str(runs / f"{config.oracle}-{digest}-{seed}"))


def run_all(conditions: Mapping[str, FinetuneConfig], arguments: argparse.Namespace, work: Work | None = None) -> Runs:
    """Trains and measures (by `work`, see `make`) what is not there yet, as many runs side by side as there are
    workers, and returns all. Runs that two conditions share are made once. Exits, with what is finished kept, if one
    fails or is stopped."""
    seeds = parse_seeds(arguments.seeds)
    wanted = {(c, seed): placed(config, seed, arguments.runs) for seed in seeds for c, config in conditions.items()}
    configs = {config.out: config for config in wanted.values()}
    missing = [config for config in configs.values() if not (Path(config.out) / "result.json").is_file()]
    if missing:
        make_runs(missing, arguments.runs, arguments, work or make)
    results = {out: Run.open(out).read_json("result.json") for out in configs}
    commits = {result["commit"] for result in results.values()}
    if len(commits) > 1:
        print(f"the runs are of several commits: {', '.join(sorted(commits))}; remove {arguments.runs} for one")
    return {c: {str(seed): results[wanted[c, seed].out] for seed in seeds} for c in conditions}


def make(config: FinetuneConfig) -> int:
    """Trains this config's run, or goes on with it, and leaves what `measured` says of it in its folder."""

    def work() -> None:
        path = Path(config.out)
        run = resume(path) if (path / "config.json").is_file() else finetune(config)
        run.write_json("result.json", measured(run))

    return guarded(work)


# -- measuring


@one_thread()
def measured(run: Run) -> dict[str, Any]:
    """What there is to say about a finished run: see METRICS; fresh episodes of the final policy without noise, but
    for accuracy with it, as it is asked about."""
    _, config = run.config()
    rows = run.metrics()
    last, late = rows[-1], rows[-EPISODE:]
    scores = [row["score"] for row in rows if row.get("score") is not None]
    after = measure(find_policy(run.path), config.behaviour(), EPISODES, SEED)
    result = {
        "score": after["score_mean"],
        "mean_score": float(np.mean(scores)),
        "env_return": after["return_mean"],
        "labels": last["labels"],
        "answers": last["answers"],
        "kl": float(np.mean([row["kl_start"] for row in late])),
        "learned_reward": float(np.mean([row["reward_mean"] for row in late])),
        **of_true_reward(rows),
        "fit_seconds": float(sum(row.get("reward/fit_seconds", 0) for row in rows)),
        "wall_seconds": last["wall_seconds"],
        "commit": run.read_json("manifest.json")["git_commit"],
        "curves": {"steps": thinned([row["env_steps"] for row in rows])}
        | {name: thinned([row.get(key) for row in rows]) for name, key in CURVES.items()},
    }
    if config.learn_from == "votes":
        result |= accuracies(run, config) | answer_rates(run, config)
    return finite(result)


def of_true_reward(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """At the end, and how much lower that is than at its peak; nothing where nobody knows it."""
    if len(rows) < EPISODE or rows[-1].get("true_reward") is None:
        return {}
    means = np.convolve([row["true_reward"] for row in rows], np.full(EPISODE, 1 / EPISODE), "valid")
    return {"true_reward": float(means[-1]), "lost": float(means.max() - means[-1])}


def thinned(values: Sequence[float | None]) -> list[float]:
    """Means of POINTS stretches, as far as there are numbers."""
    parts = np.array_split(np.array([np.nan if v is None else v for v in values], np.float64), min(POINTS, len(values)))
    return [float(f"{part.mean():.4g}") for part in parts if np.isfinite(part).all()]


def accuracies(run: Run, config: FinetuneConfig) -> dict[str, float]:
    """How often the learned reward knows the better of two fresh clips: of the final policy, and of the one before;
    and how far its probabilities about the final policy's are off. As `rlhf-control evaluate-reward` measures it."""
    settings = EvaluateRewardConfig(str(run.path), truth=config.behaviour())
    opened = open_run(settings)
    policies = {"accuracy_before": load_policy(run.path / "pretrained.npz"), "accuracy": opened.policy}
    found: dict[str, float] = {}
    for name, policy in policies.items():
        _, episodes = evaluate(policy, settings.episodes, seed=settings.seed, deterministic=False)
        clips = cut(episodes, opened.length)
        judged = judge(opened, clips, settings.pairs, stream(settings.seed, name))
        found |= {name: judged["accuracy"], "ece": judged["ece"]}
    return found


def answer_rates(run: Run, config: FinetuneConfig) -> dict[str, float]:
    """Of the comparisons: shares that tie, that say "cannot tell" and, of the others, that name the worse clip. Nothing
    where there are none."""
    store = FeedbackStore(run.path / "labels.sqlite", create=False)
    asked = {query.key: query for query in store.asked() if query.kind == COMPARISON}
    if not asked:
        return {}
    answers = [(asked[v.query].clips, v.feedback) for v in in_force(store.votes()).values() if v.query in asked]
    clips = store.segments({digest for digests, _ in answers for digest in digests})
    truth = reward_named(config.behaviour(), BEHAVIOURS[config.behaviour()].env_id)
    returns = {digest: float(truth(clip).sum()) for digest, clip in clips.items()}
    ranks = [(f.ranks, [returns[d] for d in digests]) for digests, f in answers if f and f.ranks]
    clear = [(r, g) for r, g in ranks if r[0] != r[1] and g[0] != g[1]]
    wrong = sum((r[0] < r[1]) != (g[0] > g[1]) for r, g in clear)
    return {
        "ties": sum(r[0] == r[1] for r, _ in ranks) / len(answers),
        "cannot_tell": 1 - len(ranks) / len(answers),
        "wrong": wrong / max(1, len(clear)),
    }


# -- telling


def experiment(name: str, title: str, parts: Sequence[Part], arguments: argparse.Namespace) -> None:
    """Makes the runs of all parts and writes NAME.json, NAME.md and the parts' figures, as PNG and PDF."""
    results = run_all({c: config for part in parts for c, config in part.conditions.items()}, arguments)
    name += "" if arguments.task == "backward" else f"-{arguments.task}"
    command = as_called()
    facts = environment_facts()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = {
        "command": command,
        **facts,
        "options": {c: changes(config) for part in parts for c, config in part.conditions.items()},
        "summary": {c: summary(seeds) for c, seeds in results.items()},
        "runs": results,
    }
    (arguments.out / f"{name}.json").write_text(json.dumps(finite(result)) + "\n")
    lines = [f"# {title}"]
    for part in parts:
        lines += ["", *([f"## {part.heading}", ""] if part.heading else []), setting(part, arguments)]
        lines += ["", *table(part, results)]
        for caption, figure in draw(part, results, f"{name}{part.suffix}", arguments).items():
            lines += ["", f"![{caption}]({figure}.png)"]
    commit, processor = facts["git_commit"][:12], facts["processor"]
    lines += ["", f"`{command}`, commit {commit}, {processor}. [Raw numbers]({name}.json)."]
    (arguments.out / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


def setting(part: Part, arguments: argparse.Namespace) -> str:
    """What a table's numbers are, in a paragraph."""
    config = next(iter(part.conditions.values()))
    name, seeds = config.behaviour(), len(parse_seeds(arguments.seeds))
    before = measure(find_policy(config.policy), name, EPISODES, SEED)
    return (
        f"HalfCheetah-v5, `{name}`, {config.total_steps:,} steps a run. Score: {BEHAVIOURS[name].unit}; before, "
        f"{before['score_mean']:.2f} at an environment return of {before['return_mean']:.0f}. Interquartile mean over "
        f"{seeds} seeds and its 95 % bootstrap interval."
    )


def draw(part: Part, results: Runs, name: str, arguments: argparse.Namespace) -> dict[str, str]:
    """Caption -> name of a figure."""
    scores = {METRICS[metric][0]: values(results, part.conditions, metric) for metric in part.panels}
    plot_groups({metric: of_metric for metric, of_metric in scores.items() if of_metric}, arguments.out / name)
    of_runs = curves(part.conditions, arguments)
    plot_each_group(of_runs, "score", arguments.out / f"{name}_curves")
    figures = {"Scores by condition": name, "Learning curves": f"{name}_curves"}
    if part.overoptimisation:
        figures["Learned and true reward"] = f"{name}_rewards"
        plot_overoptimisation(of_runs, arguments.out / f"{name}_rewards", EPISODE)
    return figures


def changes(config: FinetuneConfig) -> dict[str, Any]:
    """The options that are not the defaults."""

    def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
        return {
            k: differing(v, b[k]) if isinstance(v, Mapping) and isinstance(b.get(k), Mapping) else v
            for k, v in a.items()
            if k not in b or v != b[k]
        }

    return differing(asdict(config), asdict(FinetuneConfig(config.policy)))


def values(results: Runs, conditions: Mapping[str, Any], metric: str) -> dict[str, np.ndarray]:
    """Condition -> its runs' numbers (R,), where they have one."""
    found = {c: [run[metric] for run in results[c].values() if run.get(metric) is not None] for c in conditions}
    return {c: np.array(numbers) for c, numbers in found.items() if numbers}


def summary(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Metric -> interquartile mean and interval, of those that every seed has."""
    return {
        metric: interval([run[metric] for run in seeds.values()])
        for metric in METRICS
        if all(run.get(metric) is not None for run in seeds.values())
    }


def table(part: Part, results: Runs) -> list[str]:
    """Lines of Markdown."""
    lines = [
        f"| condition | {' | '.join(METRICS[m][0] for m in part.columns)} |",
        "|---|" + "---:|" * len(part.columns),
    ]
    for condition in part.conditions:
        of_condition, known = summary(results[condition]), part.facts.get(condition, {})
        cells = []
        for metric in part.columns:
            digits = METRICS[metric][1]
            if metric in known:
                cells.append(f"{known[metric]:.{digits}f}")
            elif metric in of_condition:
                x = {k: f"{v:.{digits}f}" for k, v in of_condition[metric].items()}
                alone = x["low"] == x["iqm"] == x["high"] or x["low"] == "nan"  # one run has no interval
                cells.append(x["iqm"] if alone else f"{x['iqm']} ({x['low']} to {x['high']})")
            else:
                cells.append("")
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return lines


def curves(conditions: Mapping[str, FinetuneConfig], arguments: argparse.Namespace) -> list[Curve]:
    """Every run's metrics, in groups named by the conditions."""
    return [
        replace(load_curves([placed(config, seed, arguments.runs).out])[0], group=name)
        for name, config in conditions.items()
        for seed in parse_seeds(arguments.seeds)
    ]
