"""Does the loop work on dialogue, and how far can a reward that was learned from comparisons be followed there?

From the shipped policy to more cheerful replies (VADER's sentiment less a length term), by 100, 500 and 2,000
comparisons of two replies to the same prompt, asked along the run; with coin flips and a constant reward as controls.
Beside gold and learned reward and the KL from the shipped policy, all a reply: the perplexity of the replies under it,
and how varied they are (the share of different ones, and of different pairs of words: Li et al., arXiv 1510.03055).
Then, from 500 comparisons about the first policy alone and without an anchor, how gold depends on the KL, as Gao et al.
(arXiv 2210.10760) measured it: PPO on the mean of the ensemble, its worst case, and mean - lambda sd; and the best of n
replies by the same learned reward. With d = sqrt(KL), their fits are d (alpha - beta d) for best-of-n and
d (alpha - beta log d) for PPO.

Command: python experiments/dialogue.py
Cost:    some 45 core-minutes: 40 runs of a minute each
Result:  experiments/results/dialogue.md and .json, figure dialogue_frontier. 500 comparisons raise the gold reward of a
         reply from -0.03 to 0.29 (0.15 to 0.36) at 5 nats, 100 do hardly less but go farther for it, and 2,000 stay
         nearer and more varied; coin flips and a constant gain nothing. Best of 64 gains 0.26 at 3 nats. Without an
         anchor all arms leave the language (24 tokens, perplexity in the thousands): up to 25 nats gold rises, then
         it hangs on the seed whether the words that were found please VADER or not, from -0.4 to 0.9, so that Gao et
         al.'s forms explain 26 to 61 %. Neither the worst case nor mean - lambda sd prevents that. The alarm would have
         stopped all of these 15 runs, and none of the 25 that were anchored.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import feedback
import numpy as np
from common import RESULTS, add_place, as_called, interval
from matplotlib.figure import Figure

from rlhf_control.analysis.axes import WIDTH, style
from rlhf_control.analysis.figures import save_figure
from rlhf_control.analysis.replies import replies_table
from rlhf_control.analysis.reward_evaluation import finite, open_run
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.dialogue import replies, words
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig, GuardConfig, ReferenceConfig, RewardConfig
from rlhf_control.config.commands import EvaluateRewardConfig
from rlhf_control.data import Array, Segments
from rlhf_control.errors import guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.rl.kl_anchor import frozen
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.simulation.dialogues import converse, held_out_prompts
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.train import finetune, resume
from rlhf_control.training.continuing import suited
from rlhf_control.training.guard import KL_FLOOR, jump

STEPS, LABELS = 61_440, 500
ONCE = 2  # times as many steps, from answers about the first policy alone: there it is to go too far
BASE = replace(  # without guards, for what they would stop is to be measured
    suited("dialogue"), oracle="cheerful", labels=LABELS, total_steps=STEPS, video=False, checkpoint_seconds=30,
    guard=GuardConfig(chance="off", alarm="off"),
)  # fmt: skip
ANSWERS = (100, 500, 2000)
LAMBDA = 1.0
UNMOVED = 1e-3  # nats a reply
REPLIES = 8  # to each prompt that is held out
BEST_OF = (1, 2, 4, 8, 16, 32, 64)
COLUMNS = {
    "gold": ("gold reward a reply", 3), "score": ("share cheerful and short", 2), "proxy": ("learned reward", 2),
    "kl": ("KL a reply, nats", 1), "perplexity": ("perplexity under the shipped policy", 1),
    "different": ("different replies", 2), "distinct_2": ("distinct-2", 2), "tokens": ("tokens", 1),
    "alarm": ("would be stopped", 2), "minutes": ("minutes", 1),
}  # fmt: skip


def conditions(steps: int) -> tuple[dict[str, FinetuneConfig], dict[str, FinetuneConfig]]:
    """The runs that are asked along the way, and those about the first policy alone."""
    base = replace(BASE, total_steps=steps)
    along = {f"{n:,} comparisons": feedback.budget(base, n) for n in ANSWERS}
    along["coin flips"] = feedback.budget(replace(base, oracle="coin-flip", score="cheerful"), LABELS)
    along["a constant"] = feedback.budget(replace(base, learn_from="constant"), LABELS)
    free = replace(base, reference=ReferenceConfig("pretrained", beta=0.0), total_steps=ONCE * steps)
    once = feedback.budget(free, LABELS, rounds=1)
    return along, {
        "mean": once,
        "worst case": replace(once, reward=RewardConfig(combine="worst-case")),
        f"mean - {LAMBDA:g} sd": replace(once, reward=RewardConfig(conservative=LAMBDA)),
    }


# -- measuring


def make(config: FinetuneConfig) -> int:
    """Trains this config's run, or goes on with it, and leaves what `measured` says of it in its folder."""

    def work() -> None:
        path = Path(config.out)
        run = resume(path) if (path / "config.json").is_file() else finetune(config)
        run.write_json("result.json", measured(run))

    return guarded(work)


@one_thread()
def measured(run: Run) -> dict[str, Any]:
    """What there is to say of a finished run: of replies to the prompts held out, and of every iteration."""
    _, config = run.config()
    rows = run.metrics()
    before, after = load_policy(run.path / "pretrained.npz"), find_policy(run.path)
    prompts = held_out_prompts() * REPLIES
    clips = {name: converse(p, prompts, stream(0, "replies")) for name, p in (("before", before), ("after", after))}
    result: dict[str, Any] = {name: of_replies(some, before, policy) for (name, some), policy in
                              zip(clips.items(), (before, after), strict=True)}  # fmt: skip
    result["after"]["minutes"] = rows[-1]["wall_seconds"] / 60
    result["curve"] = [of_iteration(row) for row in rows if row.get("true_reward") is not None]
    if config.learn_from == "votes":
        reward = open_run(EvaluateRewardConfig(str(run.path), truth="cheerful")).reward
        for name, some in clips.items():
            result[name]["proxy"] = float(total(reward.predict(some), some).mean())
        result["best of n"] = best_of_n(before, reward)
    return finite({**result, "labels": rows[-1]["labels"], "commit": run.read_json("manifest.json")["git_commit"]})


def total(steps: Array, clips: Segments) -> Array:
    """Sums (S,) over the steps there are."""
    assert clips.mask is not None
    return np.where(clips.mask, steps, 0).sum(-1)


def of_replies(clips: Segments, before: Policy, policy: Policy) -> dict[str, float]:
    """Means over replies (S, L, ...) of a policy; `before` is what it is held against."""
    behaviour, mask = BEHAVIOURS["cheerful"], clips.mask
    assert mask is not None
    new, old = (frozen(p).distribution(clips.obs) for p in (policy, before))
    import torch

    said = torch.from_numpy(clips.action.astype(np.int64))
    return {
        "gold": float(total(behaviour.reward(clips), clips).mean()),
        "score": float(behaviour.score(clips).mean()),
        "kl": float(total(new.kl(old).numpy(), clips).mean()),
        "perplexity": math.exp(-float(old.log_prob(said).numpy()[mask].mean())),
        **variety(replies(clips)),
        "tokens": float(mask.sum(1).mean()),
    }


def variety(texts: Sequence[str]) -> dict[str, float]:
    """Shares of replies, and of the pairs of words that follow each other in them, that are different."""
    pairs = [pair for text in texts for pair in pairwise(words(text))]
    return {"different": len({*texts}) / len(texts), "distinct_2": len({*pairs}) / max(1, len(pairs))}


def of_iteration(row: Mapping[str, Any]) -> dict[str, float]:
    """KL, gold and learned reward a reply, of one iteration's rollout."""
    length = row["episode_length"]
    return {"kl": row["kl_start"] * length, "gold": row["true_reward"] * length, "proxy": row["reward_mean"] * length}


def best_of_n(policy: Policy, reward: Any) -> list[dict[str, float]]:
    """Gold of the replies that the learned reward likes best among n, by n; over all of `BEST_OF[-1]` replies, in
    disjoint groups of n."""
    prompts, most = held_out_prompts(), BEST_OF[-1]
    clips = converse(policy, prompts * most, stream(0, "best of n"))
    shape = most, len(prompts)
    proxy = total(reward.predict(clips), clips).reshape(shape)
    gold = total(BEHAVIOURS["cheerful"].reward(clips), clips).reshape(shape)
    found = []
    for n in BEST_OF:
        groups = (most // n, n, len(prompts))
        best = proxy.reshape(groups).argmax(1)[:, None]
        chosen = {name: np.take_along_axis(values.reshape(groups), best, 1).mean() for name, values in
                  (("gold", gold), ("proxy", proxy))}  # fmt: skip
        found.append({"n": n, "kl": math.log(n) - (n - 1) / n, **{k: float(v) for k, v in chosen.items()}})
    return found


def fitted(kl: Array, gain: Array, *, ppo: bool) -> dict[str, float]:
    """Least squares of Gao et al.'s forms to a gain in gold (P,) at KLs (P,): alpha, beta and the share explained."""
    d = np.sqrt(np.maximum(kl, 1e-6))
    columns = np.stack([d, -d * (np.log(d) if ppo else d)], 1)
    (alpha, beta), *_ = np.linalg.lstsq(columns, gain, rcond=None)
    left = gain - columns @ [alpha, beta]
    return {"alpha": float(alpha), "beta": float(beta), "r2": 1 - float(left.var() / max(gain.var(), 1e-12))}


def stopped(rows: Sequence[Mapping[str, Any]]) -> float:
    """1.0 if the KL of these iterations is what an alarm is given for, by default, in dialogue; else 0.0."""
    guard, usual, since = suited("dialogue").guard, KL_FLOOR, list[float]()
    for row in rows:
        if "reward/steps" in row or not since:  # a fit
            usual, since = max(row["kl_start"], KL_FLOOR), []
        since.append(row["kl_start"])
        if len(since) >= guard.window and jump(since, usual, guard.window) > (guard.kl_jump or math.inf):
            return 1.0
    return 0.0


# -- telling


def frontier(results: feedback.Runs, once: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Arm -> (KL, gain in gold) of all iterations of all seeds, and the fit; "best of n" beside them."""
    arms: dict[str, dict[str, Any]] = {}
    for arm in once:
        kl, gain = np.array([point for run in results[arm].values() for point in gains(run["curve"])]).T
        arms[arm] = {"kl": kl.tolist(), "gain": gain.tolist(), "fit": fitted(kl, gain, ppo=True)}
    points = [
        (p["kl"], p["gold"] - run["best of n"][0]["gold"]) for run in results["mean"].values() for p in run["best of n"]
    ]
    kl, gain = np.array(points).T
    arms["best of n"] = {"kl": kl.tolist(), "gain": gain.tolist(), "fit": fitted(kl, gain, ppo=False)}
    return arms


def gains(curve: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    """(KL, gain in gold over the mean before anything was learned) of the iterations in which something was."""
    before = float(np.mean([p["gold"] for p in curve if p["kl"] < UNMOVED]))
    return [(p["kl"], p["gold"] - before) for p in curve if p["kl"] >= UNMOVED]


def draw(arms: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Gain in gold over sqrt(KL), every iteration a dot, with the fits."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        for i, (arm, points) in enumerate(arms.items()):
            d = np.sqrt(np.maximum(points["kl"], 0))
            axes.plot(d, points["gain"], ".", color=f"C{i}", alpha=0.15, markersize=4)
            along = np.linspace(1e-3, d.max(), 200)
            fit, slope = points["fit"], along if arm == "best of n" else np.log(along)
            axes.plot(along, along * (fit["alpha"] - fit["beta"] * slope), color=f"C{i}", label=arm)
        axes.set_xlabel("square root of the KL from the shipped policy, nats a reply")
        axes.set_ylabel("gain in gold reward a reply")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="0.9", linewidth=0.5)
        axes.legend(frameon=False)
        save_figure(figure, path)


def table(results: feedback.Runs, names: Sequence[str]) -> list[str]:
    """A row a condition, interquartile means and 95 % intervals; the shipped policy first."""
    heads = [head for head, _ in COLUMNS.values()]
    lines = ["| condition | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    first = next(iter(results[names[0]].values()))["before"]
    lines.append(
        row("shipped", {column: [first[column]] if column in first and column != "proxy" else [] for column in COLUMNS})
    )
    for name in names:
        of_runs = [run["after"] for run in results[name].values()]
        lines.append(row(name, {c: [r[c] for r in of_runs if r.get(c) is not None] for c in COLUMNS}))
    return lines


def row(name: str, values: Mapping[str, Sequence[float]]) -> str:
    cells = []
    for column, (_, digits) in COLUMNS.items():
        if len(values[column]) > 1:
            found = interval(values[column])
            cells.append(f"{found['iqm']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})")
        else:
            cells.append(f"{values[column][0]:.{digits}f}" if values[column] else "")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a run")
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/dialogue"), help="where runs are kept and found")
    add_place(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    along, once = conditions(arguments.steps)
    results = feedback.run_all({**along, **once}, arguments, make)
    for name, config in {**along, **once}.items():
        for seed, result in results[name].items():
            run = feedback.placed(config, int(seed), arguments.runs).out
            result["after"]["alarm"] = stopped(Run.open(run).metrics())
    arguments.out.mkdir(parents=True, exist_ok=True)
    arms = frontier(results, once)
    draw(arms, arguments.out / "dialogue_frontier")
    first = parse_seeds(arguments.seeds)[0]
    run = feedback.placed(along["500 comparisons"], first, arguments.runs).out
    policies = [("before", load_policy(Path(run) / "pretrained.npz")), ("after", find_policy(run))]
    facts, command = environment_facts(), as_called()
    fits = {arm: points["fit"] for arm, points in arms.items()}
    kept = {"command": command, **facts, "fits": fits, "frontier": arms, "runs": results}
    (arguments.out / "dialogue.json").write_text(json.dumps(finite(kept)) + "\n")
    seeds, prompts = len(parse_seeds(arguments.seeds)), len(held_out_prompts())
    lines = [
        "# Dialogue", "", f"Means over {REPLIES} sampled replies to each of {prompts} prompts held out; {seeds} seeds, "
        f"interquartile means and 95 % bootstrap intervals; {arguments.steps:,} tokens a run.", "",
        "## Asked along the run, held near the shipped policy", "", *table(results, list(along)), "",
        f"## 500 comparisons about the shipped policy, no anchor, {ONCE} times the tokens", "",
        *table(results, list(once)), "",
        "![Gain in gold over the KL](dialogue_frontier.png)", "",
        "| arm | alpha | beta | explained |", "|---|---|---|---|",
        *(f"| {arm} | {fit['alpha']:.3f} | {fit['beta']:.3f} | {fit['r2']:.2f} |" for arm, fit in fits.items()), "",
        f"## Replies before and after 500 comparisons, sampled (seed {first})", "", replies_table(policies), "",
        f"`{command}`, commit {facts['git_commit'][:12]}, {facts['processor']}. [Raw numbers](dialogue.json).",
    ]  # fmt: skip
    (arguments.out / "dialogue.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
