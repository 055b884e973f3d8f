"""Is it better to ask along the way than to ask everything about the first policy?

The same answers in 1 round, all about the policy before fine-tuning (offline: the reward is then fixed), or in 2, 5 or
9 rounds about the policy as it changes. Besides the score: how often the last reward knows the better of two fresh
clips, of the final policy, where it is needed, and of the first one (as `rlhf-control evaluate-reward` measures it).

Command: python experiments/online_labels.py        (--task keep-pace: 2.5 times the cost)
Cost:    30 runs, some 6 core-minutes
Files:   results/online_labels.md
Result:  40 answers in five rounds score 3.8 m/s (3.5 to 4.3), all at the start 3.0 (2.2 to 3.7); of 100 answers 4.1
         (3.4 to 4.6) and 3.4 (2.6 to 3.6)
         (five seeds, interquartile means and 95 % intervals)
"""

import sys

import feedback

from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import guarded

MANY, FEW = 100, 40


def conditions(base: FinetuneConfig, answers: int, rounds: tuple[int, ...]) -> dict[str, FinetuneConfig]:
    """A single round is at the start, before the policy has changed."""
    names = {1: f"{answers} answers, offline"}
    return {names.get(n, f"{answers} answers in {n} rounds"): feedback.budget(base, answers, rounds=n) for n in rounds}


def main() -> None:
    arguments = feedback.options(__doc__)
    base = feedback.base(arguments)
    every = conditions(base, MANY, (1, 2, 5, 9)) | conditions(base, FEW, (1, 5))
    columns = ("score", "mean_score", "accuracy", "accuracy_before", "lost")
    part = feedback.Part(every, columns, panels=("score", "mean_score", "accuracy", "accuracy_before"))
    feedback.experiment("online_labels", "Answers along the run, or all at its start", [part], arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
