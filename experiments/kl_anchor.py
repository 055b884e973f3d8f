"""What is the KL anchor good for?

Without it (beta 0), held near the policy of the last label round, and held near the policy before fine-tuning, in
two settings. The quickstart's: an opposite behaviour, the old skill erased at the start (shrink 0.1) and answers asked
along the run. And one where the old skill should stay: `jump`, whose reward says nothing of running, learned from 40
answers about the first policy, so that the reward is fixed and can be followed too far (Gao et al., arXiv 2210.10760).
There the environment's return tells how much of the running is left, and the true reward, beside the learned one and
over the KL, what following that still brings.

Command: python experiments/kl_anchor.py
Cost:    45 runs, some 10 core-minutes
Files:   results/kl_anchor.md
Result:  `backward`: 3.9 to 4.1 m/s whatever the anchor. `jump`: the environment's return is 378 (-1011 to 1388)
         without, 1568 (113 to 2178) with beta 0.1, 2288 (1255 to 2405) with 0.5; it was 2532
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace
from typing import Literal

import feedback

from rlhf_control.config import FinetuneConfig, ReferenceConfig
from rlhf_control.errors import guarded
from rlhf_control.nets.policy import LOOSE

FEW = 40  # answers
LONGER = 1.5  # times the steps of a run: what is followed too far needs time


def anchored(base: FinetuneConfig, policy: Literal["round", "pretrained"], beta: float) -> FinetuneConfig:
    return replace(base, reference=ReferenceConfig(policy, beta))


def opposite(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    every = {"no anchor": anchored(base, "round", 0.0)}
    for policy, name in (("round", "last round"), ("pretrained", "before")):
        for beta in (0.02, 0.1):
            every[f"{name}, beta {beta}"] = anchored(base, policy, beta)  # type: ignore[arg-type]
    return every


def beside_the_old(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    jump = replace(base, oracle="jump", shrink=1.0, min_log_std=LOOSE, total_steps=int(LONGER * base.total_steps))
    fixed = feedback.budget(jump, FEW, rounds=1)
    return {
        "no anchor (jump)" if beta == 0 else f"before, beta {beta} (jump)": anchored(fixed, "pretrained", beta)
        for beta in (0.0, 0.02, 0.1, 0.5)
    }


def main() -> None:
    arguments = feedback.options(__doc__, tasks=("backward",))
    base = feedback.base(arguments)
    parts = [
        feedback.Part(
            opposite(base), ("score", "mean_score", "accuracy", "kl", "lost"),
            heading="An opposite behaviour, answers along the run", suffix="_backward",
        ),
        feedback.Part(
            beside_the_old(base), ("true_reward", "learned_reward", "lost", "env_return", "kl", "score"),
            panels=("true_reward", "learned_reward", "env_return"),
            heading="A behaviour beside the old one, a fixed reward", suffix="_jump", overoptimisation=True,
        ),
    ]  # fmt: skip
    feedback.experiment("kl_anchor", "With and without the KL anchor", parts, arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
