"""From how few answers does a reward know what is wanted of the clips that are asked about next?

The answers of finished runs by votes, up to each of their rounds, are learned from anew, with the straight line below
the networks and by networks alone; what that makes of the clips of the next round, which come from what the policy did
after it, is held against the oracle's own reward: the correlation of their returns, and that of their steps. So ways of
learning a reward are told apart in seconds, without learning a policy from each, on the same answers; what a policy
would have done under another reward, and been asked about then, is left out.

Command: python experiments/refits.py runs/label_table/*-100           (any finished runs with an oracle)
Cost:    half a second a round and way, of one core
Result:  results/refits.json and .md: of runs on five tasks' own rewards (five seeds each, label_table.py), after 20
         answers the correlation of returns is 0.95 to 1.00 with a line, by networks alone 0.27 (Ant) to 0.93
         (Hopper); after 90 it is 1.00 and 0.95 to 0.99
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import interval, keep, keep_table

from rlhf_control.analysis.reward_distances import pearson
from rlhf_control.behaviours.catalogue import reward_named
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import Answers, Segments, mean_over_steps
from rlhf_control.errors import UserError, guarded
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.reward.model import RewardModel
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run

WAYS: dict[str, dict[str, Any]] = {"with a line": {"linear": "on"}, "networks alone": {"linear": "off"}}
SHOWN = (20, 40, 60, 90)  # answers, in the table


def rounds_of(run: Path) -> list[tuple[Answers, Segments, Segments]]:
    """Returns, for every round of a run but the last, all answers up to it, the clips they are about, and the clips of
    the next round."""
    store = FeedbackStore(run / "labels.sqlite", create=False)
    asked, labels = store.asked(), Labels(store, None, 0)
    labels.adopt()
    found = []
    for k in sorted({one.round for one in asked})[:-1]:
        answers = labels.answers([one.key for one in asked if one.round <= k])
        past = {digest for one in asked if one.round <= k for digest in one.clips}
        coming = {digest for one in asked if one.round == k + 1 for digest in one.clips} - past
        if answers is not None and len(coming) > 1:
            before, after = (Segments.stack(list(store.segments(sorted(clips)).values())) for clips in (past, coming))
            found.append((answers, before, after))
    return found


def rows_of(run: Path) -> list[dict[str, Any]]:
    """One row a round and way: how many answers, and both correlations with the oracle's reward on what came next."""
    _, config = Run.open(run).config()
    if not isinstance(config, FinetuneConfig):
        raise UserError(f"{run} is no fine-tuning run; name the folder of one")
    env_id = str(Run.open(run).read_json("manifest.json")["env_id"])
    truth = reward_named(config.oracle, env_id)
    rows = []
    for answers, past, coming in rounds_of(run):
        true = truth(coming)
        for way, options in WAYS.items():
            own = replace(config.reward, **options)
            model = RewardModel(past.obs.shape[-1], past.action.shape[-1], own, env_id)
            model.fit(answers, past, stream(config.seed, "refit", len(answers)))
            learned = model.predict(coming)
            returns = [mean_over_steps(values, coming.mask) for values in (learned, true)]
            rows.append({
                "task": env_id, "oracle": config.oracle, "seed": config.seed, "way": way, "answers": len(answers),
                "clips": pearson(*returns), "steps": pearson(learned.ravel(), true.ravel()),
            })  # fmt: skip
    return rows


def table_of(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The correlation of clips by task and way, over runs, at SHOWN numbers of answers."""
    table = []
    for what in dict.fromkeys((row["task"], row["oracle"], row["way"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["oracle"], row["way"]) == what]
        cells = []
        for answers in SHOWN:
            found = [row["clips"] for row in mine if row["answers"] == answers]
            cells.append("{iqm:.2f} ({low:.2f} to {high:.2f})".format(**interval(found)) if found else "")
        table.append([f"{what[0]}, {what[1]}", what[2], *cells])
    return table


@one_thread()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    arguments = parser.parse_args()
    rows = [row for run in arguments.runs for row in rows_of(run)]
    table = table_of(rows)
    for line in table:
        print(*line, sep=" | ")
    names = " ".join(sorted({run.name for run in arguments.runs}))
    keep("refits", {"command": f"python experiments/refits.py {names}", **environment_facts(), "rows": rows})
    keep_table("refits", ["task and oracle", "learned", *(f"{n} answers" for n in SHOWN)], table)


if __name__ == "__main__":
    sys.exit(guarded(main))
