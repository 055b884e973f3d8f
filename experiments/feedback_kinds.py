"""Which kind of feedback teaches most: for the same number of answers, and for the same minutes of a person's time?

Comparisons, rankings of four clips, ratings from 1 to 5, rewards (a number), success marks (whether an episode, of 10
seconds here, is better a step than half of the pool's clips), pairs of groups (which of two groups of three clips that
look alike is the better), and three that go halves with comparisons: demonstrations (clips of a policy that was trained
on the oracle's reward), corrections (the best of four new attempts from a clip's start) and take-overs (what the
demonstrator does from the start of the worse of two clips). One synthetic annotator without mistakes answers all of
them, so that what differs is what an answer says, not how well people say it; a person's numbers would be noisier than
the oracle's, above all rewards. Corrections also cost the simulator some thousand steps a run, which are not among
those of the run.

What an answer costs a person, in seconds, is assumed: the time of the clips that must be watched, SECONDS_A_BIT for
each bit of the decision (a comparison is one bit, a ranking of four log2 4! = 4.6), and for a demonstration TAKES
times its length, for people need several takes; who takes over drives once, where it happens. Of an episode, the last
seconds are watched. So a comparison of two 1.5-second clips costs 4 s, between the 3 to 5 s of Christiano et al.
(arXiv 1706.03741) and near the 4.8 s (750 an hour) of Ibarz et al. (arXiv 1811.06521). The other costs follow from the
model alone, and nobody has measured them here.

Command: python experiments/feedback_kinds.py       (--task keep-pace: 2.5 times the cost)
Cost:    85 runs and the demonstrator, some 20 core-minutes
Files:   results/feedback_kinds.md
Result:  60 answers: comparisons 4.4 m/s (4.2 to 4.7), rankings 4.5, ratings, rewards, pairs of groups, and half
         demonstrations, take-overs or corrections 4.2 to 4.3, success marks 3.7 (3.4 to 4.0). 4 minutes: 60
         comparisons 4.4, 22 rankings 4.5, 62 ratings 4.2, 29 rewards 4.2, 24 pairs of groups 4.0, 48 success marks
         3.7, with take-overs 4.5, with corrections 3.8, with demonstrations 3.4 (five seeds, interquartile means and
         95 % intervals). By today's likelihood of marks 60 of them come to 3.9 (3.5 to 4.1; success_marks.py)
"""

import argparse
import sys
from dataclasses import replace
from math import factorial, log2
from pathlib import Path

import feedback

from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import guarded

ANSWERS = 60
SECONDS_A_BIT = 1.0
NUMBERS = 100  # that a person tells apart when giving a reward
TAKES = 10
END_SECONDS = 4.0  # of an episode, as the window shows them
# Or there would be too few episodes to mark in such a short run
SHORT: dict[str, bool | int | float | str] = {"max_episode_steps": 200}
DEMONSTRATOR_SEED = 1000  # none of the experiment's own
DEMONSTRATOR_STEPS = 2.5  # times those of a run

BASE = feedback.BASE
WATCHED = {  # clips, and bits of the decision about them
    "comparison": (2, 1.0),
    "ranking": (BASE.clips_per_query, log2(factorial(BASE.clips_per_query))),
    "rating": (1, log2(BASE.annotator.levels)),
    "reward": (1, log2(NUMBERS)),
    "demonstration": (0, 0.0),
    "success": (END_SECONDS / BASE.clip_seconds, 1.0),
    "take-over": (2, 1.0),
    "groups": (2 * BASE.clips_per_group, 1.0),
    "correction": (1 + BASE.query.attempts, log2(BASE.query.attempts) + 1),  # which is best; is it better than the clip
}
PERFORMED = {"demonstration": TAKES, "take-over": 1}  # lengths of a clip
NAMES = {"success": "success marks", "groups": "pairs of groups"}
HALVED = ("demonstration", "correction", "take-over")  # with comparisons


def seconds(kind: str) -> float:
    """Of a person's time for one answer of this kind."""
    clips, bits = WATCHED[kind]
    return (clips + PERFORMED.get(kind, 0)) * BASE.clip_seconds + bits * SECONDS_A_BIT


def seconds_an_answer(condition: str) -> float:
    """On the mean, of a condition's answers."""
    return (seconds("comparison") + seconds(condition)) / 2 if condition in HALVED else seconds(condition)


def affordable(condition: str) -> int:
    """Answers in the time of ANSWERS comparisons."""
    return int(ANSWERS * seconds("comparison") / seconds_an_answer(condition))


def condition(base: FinetuneConfig, kind: str, answers: int, demonstrator: str) -> FinetuneConfig:
    if kind == "demonstration":
        shown = answers // 2
        return feedback.budget(base, answers - shown, demonstrations=demonstrator, demonstration_clips=shown)
    if kind == "take-over":
        taught = replace(base.annotator, expert=demonstrator)
        return feedback.budget(base, answers, feedback=("comparison", kind), annotator=taught)
    if kind == "success":
        base = replace(base, env=SHORT)
    if kind in HALVED:
        return feedback.budget(base, answers, feedback=("comparison", kind))
    return feedback.budget(base, answers, feedback=(kind,))


def part(base: FinetuneConfig, answers: dict[str, int], heading: str, suffix: str, demonstrator: str) -> feedback.Part:
    conditions, facts = {}, {}
    for kind, n in answers.items():
        name = f"{n} {NAMES.get(kind, f'{kind}s')}"
        if kind in HALVED:
            name = f"{n - n // 2} comparisons, {n // 2} {kind}s"
        conditions[name] = condition(base, kind, n, demonstrator)
        facts[name] = {"minutes": n * seconds_an_answer(kind) / 60}
    columns = ("score", "mean_score", "accuracy", "accuracy_before", "minutes")
    return feedback.Part(conditions, columns, heading=heading, suffix=suffix, facts=facts)


def demonstrator(base: FinetuneConfig, arguments: argparse.Namespace) -> str:
    """The folder of the policy that shows how it is done."""
    steps = int(DEMONSTRATOR_STEPS * base.total_steps)
    config = replace(base, learn_from="oracle", total_steps=steps)
    feedback.run_all(
        {"demonstrator": config}, argparse.Namespace(**{**vars(arguments), "seeds": str(DEMONSTRATOR_SEED)})
    )
    return str(Path(feedback.placed(config, DEMONSTRATOR_SEED, arguments.runs).out))


def main() -> None:
    arguments = feedback.options(__doc__)
    base = feedback.base(arguments)
    shown_by = demonstrator(base, arguments)
    minutes = ANSWERS * seconds("comparison") / 60
    parts = [
        part(base, dict.fromkeys(WATCHED, ANSWERS), f"{ANSWERS} answers", "_answers", shown_by),
        part(base, {k: affordable(k) for k in WATCHED}, f"{minutes:.0f} minutes", "_minutes", shown_by),
    ]
    feedback.experiment("feedback_kinds", "Kinds of feedback", parts, arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
