"""A learned reward can be followed too far: what keeps the policy from it?

A quarter of the answers wrong, all of them about the first policy, so that the reward is fixed and can be followed too
far (Gao et al., arXiv 2210.10760); what it is, of the members' opinions: their mean, the mean less their uncertainty,
or the lowest; each without an anchor and with one to the policy before, of two weights. Coste et al. (arXiv 2310.02743)
found the mean the weakest, for language models. `jump`, which says nothing of the running that the policy can do. The
curves are of the learned and of the true reward, over the steps and over the root of the KL from the start.

Command: python experiments/overoptimisation.py
Cost:    45 runs, some 10 core-minutes
Files:   results/overoptimisation.md
Result:  no difference beyond chance: the true reward a step at the end is 0.26 (-0.13 to 0.38) by the mean, 0.20 (0.00
         to 0.27) less half its uncertainty, 0.11 (0.02 to 0.19) by the lowest, without an anchor, 0.20, 0.16 and 0.19
         with beta 0.1, and 0.04 to 0.11 is lost since the peak by all nine. So the mean stays the default
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace
from typing import Any

import feedback

from rlhf_control.config import AnnotatorConfig, FinetuneConfig, ReferenceConfig
from rlhf_control.errors import guarded
from rlhf_control.nets.policy import LOOSE

ANSWERS, WRONG = 100, 0.25
LONGER = 1.5  # times the steps of a run: what is followed too far needs time
BETAS = (0.0, 0.01, 0.1)
REWARDS: dict[str, dict[str, Any]] = {  # what the reward is, and the options that say so
    "mean": {},
    "mean less uncertainty": {"conservative": 0.5},
    "lowest": {"combine": "worst-case"},
}


def conditions(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    jump = replace(
        base, oracle="jump", shrink=1.0, min_log_std=LOOSE, total_steps=int(LONGER * base.total_steps),
        annotator=AnnotatorConfig(mistake=WRONG),
    )  # fmt: skip
    fixed = feedback.budget(jump, ANSWERS, rounds=1)
    return {
        f"{name}, beta {beta:g}": replace(
            fixed, reward=replace(fixed.reward, **options), reference=ReferenceConfig("pretrained", beta)
        )
        for beta in BETAS
        for name, options in REWARDS.items()
    }


def main() -> None:
    arguments = feedback.options(__doc__, tasks=("backward",))
    part = feedback.Part(
        conditions(feedback.base(arguments)), ("true_reward", "learned_reward", "lost", "env_return", "kl", "wrong"),
        panels=("true_reward", "learned_reward", "lost"), overoptimisation=True,
    )  # fmt: skip
    feedback.experiment("overoptimisation", "A learned reward followed too far", [part], arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
