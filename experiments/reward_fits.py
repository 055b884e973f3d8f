"""Does it matter how the reward is fitted to the same number of answers?

The defaults, and each choice of `--reward.*` for which there is a claim in the literature, alone: networks that go on
from the last fit (warm) rather than anew, one network rather than five, all steps of a clip rather than some in each
gradient step, temporal cropping (SURF, arXiv 2203.10050), the adaptive L2 of Christiano et al. (arXiv 1706.03741),
temperature scaling (arXiv 1706.04599), a reward less its uncertainty, and what people see (the next observation) as
the input. Besides the score: accuracy and calibration on fresh pairs of the final policy's, and the fits' time.

Command: python experiments/reward_fits.py          (--task keep-pace: 2.5 times the cost)
Cost:    45 runs, some 10 core-minutes
Files:   results/reward_fits.md
Result:  all between 3.8 and 4.2 m/s, intervals overlapping; the defaults 4.1 (3.4 to 4.6). All steps of a clip take 2.5
         times as long; warm, the calibration error is 0.15 rather than 0.06
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace
from typing import Any

import feedback

from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import guarded

ALL_STEPS = 1000  # more than a clip has


def conditions(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    def fitted(**departure: Any) -> FinetuneConfig:
        return replace(base, reward=replace(base.reward, **departure))

    return {
        "defaults": base,
        "warm start": fitted(start="warm"),
        "one network": fitted(members=1),
        "all steps of a clip": fitted(max_frames=ALL_STEPS),
        "crops of 80 to 100 %": fitted(crop=0.8),
        "adaptive L2": fitted(adaptive_l2=True),
        "calibrated": fitted(calibrate=True),
        "less half its uncertainty": fitted(conservative=0.5),
        "next observation": fitted(inputs="next-state"),
    }


def main() -> None:
    arguments = feedback.options(__doc__)
    every = conditions(feedback.base(arguments))
    columns = ("score", "mean_score", "accuracy", "ece", "fit_seconds")
    panels = ("score", "mean_score", "accuracy", "ece")
    part = feedback.Part(every, columns, panels=panels)
    feedback.experiment("reward_fits", "How the reward is fitted", [part], arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
