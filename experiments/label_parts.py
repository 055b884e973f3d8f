"""What of the method is it that saves labels? Ours, ours less each of its parts, and others' ways, on two tasks.

As label_table.py from pretraining (the same policies, partners and folder of runs), with 100 votes: from policies of
200,000 steps, 250,000 more, the reward of the task's own oracle. Each arm changes what its name says alone. Christiano
et al.'s (arXiv 1706.03741): three networks, an adaptive L2 and their lapse of 10 %, fitted to what is seen after a
step, by disagreement, with neither anchor, value passes nor a guard against chance; what they ask of a
trust region, PPO's clip does here.

`sensitivity` is that of Adkins et al. (NeurIPS 2024, arXiv 2412.07165) over these arms: with p(t, a) an arm's share of
the oracle's gain on a task, the mean over tasks of the best arm of each, less the mean of the one arm that is best
over all: what is lost by one set of options for all tasks. `ours` is the same with the defaults as that one. Both take
the best of many arms that seeds alone set apart, so beside them stands what they are where nothing but seeds does: the
arms' returns shuffled within every task and seed, the mean and what one in twenty exceeds.

Command: python experiments/label_parts.py             (--tasks HalfCheetah-v5 --seeds 0-4 --runs runs/label_table)
Cost:    some 150 runs of 15 to 25 s of one core; a stopped one goes on where it was
Result:  results/label_parts.json and .md: on HalfCheetah shares of the oracle's gain from 0.78 (no value passes) to
         0.98 (answers sooner), ours 0.90, no line 0.85, Christiano et al. 0.84; on Hopper, where ends cost the learned
         reward alone, from 1.65 (no line) to 2.79 (uniform queries), ours 2.01. `sensitivity` 0.05, where nothing but
         seeds sets arms apart 0.04 (one in twenty 0.08); of `ours` 0.43, by seeds alone 0.34 (one in twenty 0.65). So
         nothing here is told from chance by five seeds
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import label_table
import numpy as np
from common import add_place, as_called, interval, keep, keep_table

from rlhf_control.config import FinetuneConfig
from rlhf_control.config.options import nested, with_options
from rlhf_control.errors import guarded
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.sweeps.seeds import parse_seeds

TASKS = ("HalfCheetah-v5", "Hopper-v5")
STEPS = {"steps": 250_000, "start_steps": 200_000, "mistake": 0.0, "termination": "penalty",
         "as_before": True}  # fmt: skip  # as they did when these arms were run
UNGUARDED = {"guard.chance": "off"}
ARMS: dict[str, dict[str, Any]] = {  # what is changed, as an option's name has it
    "ours": {},
    "uniform queries": {"queries": "uniform"},
    "all answers at the start": {"first_labels": 100, "rounds": 1},
    "answers sooner": {"schedule": "front-loaded"},
    "no line": {"reward.linear": "off"},
    "no lapse": {"reward.lapse": 0.0},
    "no answers held out, no early end of a fit, no guard": {**UNGUARDED, "reward.bootstrap": 1.0},
    "one network": {"reward.members": 1},
    "no anchor": {"reference.beta": 0.0},
    "anchored to the start": {"reference.policy": "pretrained"},
    "no value passes after a fit": {"value_epochs": 0},
    "recent clips alone": {"query.recent_share": 1.0},
    "with the critic's view": {"reward.critics_view": "on"},
    "no guard against chance": UNGUARDED,
    "Christiano et al.": {
        "reward.members": 3, "reward.adaptive_l2": True, "reward.inputs": "next-state", "reference.beta": 0.0,
        "value_epochs": 0, "query.random_share": 0.0, **UNGUARDED,
    },
}  # fmt: skip


def arm(name: str, config: FinetuneConfig) -> FinetuneConfig:
    """The run of an arm; ours is that of label_table.py."""
    place = "".join(c if c.isalnum() else "-" for c in name)
    return replace(
        with_options(config, nested(ARMS[name])), out=config.out if name == "ours" else f"{config.out}-{place}"
    )


def sensitivity(shares: Mapping[str, Mapping[str, float]], defaults: str = "ours") -> dict[str, float]:
    """Task -> arm -> performance: what one set of options for all tasks loses, that being the best or the defaults."""
    arms = list(next(iter(shares.values())))
    apart = float(np.mean([max(by.values()) for by in shares.values()]))
    of_one = {a: float(np.mean([by[a] for by in shares.values()])) for a in arms}
    return {"sensitivity": apart - max(of_one.values()), "ours": apart - of_one[defaults]}


def shares_of(
    returns: Mapping[str, Sequence[float]], before: Sequence[float], oracle: Sequence[float]
) -> dict[str, float]:
    """Arm -> share of the oracle's gain, of all seeds together: one that gains little decides nothing."""
    gain = np.mean(oracle) - np.mean(before)
    return {name: float((np.mean(values) - np.mean(before)) / gain) for name, values in returns.items()}


def by_chance(found: Mapping[str, Mapping[str, Any]], rng: np.random.Generator, times: int = 1000) -> dict[str, Any]:
    """What `sensitivity` is where arms differ by their seeds alone: mean, and what one in twenty exceeds."""
    samples = []
    for _ in range(times):
        shares = {}
        for task, one in found.items():
            shuffled = rng.permuted(np.array(list(one["returns"].values())), axis=0)
            shares[task] = shares_of(dict(zip(one["returns"], shuffled, strict=True)), one["before"], one["oracle"])
        samples.append(sensitivity(shares))
    values = {name: np.array([sample[name] for sample in samples]) for name in samples[0]}
    return {name: {"mean": float(x.mean()), "high": float(np.quantile(x, 0.95))} for name, x in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=label_table.TASKS, default=TASKS)
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/label_table"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    vars(arguments).update(STEPS)
    starts = {t: [label_table.start_of(t, "pretrained", seed, arguments) for seed in seeds] for t in arguments.tasks}
    label_table.make_lacking((s for some in starts.values() for s in some), arguments)
    oracles = {t: [label_table.arm(s, "oracle", arguments) for s in some] for t, some in starts.items()}
    arms = {t: {a: [arm(a, label_table.arm(s, 100, arguments)) for s in some] for a in ARMS}
            for t, some in starts.items()}  # fmt: skip
    # seed by seed, so that a stopped one has something of everything
    every = [by[i] for i in range(len(seeds)) for t in arms for by in (oracles[t], *arms[t].values())]
    label_table.make_lacking(every, arguments)
    found: dict[str, dict[str, Any]] = {}
    for task, by in arms.items():
        before = [label_table.in_its_own(s, o) for s, o in zip(starts[task], oracles[task], strict=True)]
        best = [label_table.returned(o) for o in oracles[task]]
        returns = {a: [label_table.returned(run) for run in of_one] for a, of_one in by.items()}
        found[task] = {"before": before, "oracle": best, "returns": returns,
                       "shares": shares_of(returns, before, best),
                       "over seeds": {a: interval(values) for a, values in returns.items()}}  # fmt: skip
    lost = sensitivity({task: one["shares"] for task, one in found.items()})
    chance = by_chance(found, stream(0, "by chance"))
    command = as_called()
    keep("label_parts", {"command": command, **environment_facts(), "seeds": seeds, "tasks": found, "lost": lost,
                         "by chance": chance})  # fmt: skip
    rows = [
        [name, *(
            cell for one in found.values() for x in [one["over seeds"][name]]
            for cell in (f"{x['iqm']:.0f} ({x['low']:.0f} to {x['high']:.0f})", f"{one['shares'][name]:.2f}")
        )] for name in ARMS
    ]  # fmt: skip
    keep_table("label_parts", ["arm", *(h for t in found for h in (t, "share of the oracle's gain"))], rows)
    for row in rows:
        print(*row, sep=" | ")
    for name, value in lost.items():
        print(
            f"{name} {value:.2f}; by seeds alone {chance[name]['mean']:.2f}, one in twenty {chance[name]['high']:.2f}"
        )


if __name__ == "__main__":
    sys.exit(guarded(main))
