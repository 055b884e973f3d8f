"""How well does the reward model put up with annotators who are not perfect?

B-Pref's six annotators (arXiv 2111.03026), with its constants relative to the spread of returns in the pool, and three
more: one who prefers a place on the screen, one who tires within a round, one whose preference drifts. The same number
of questions to each; "cannot tell" counts as a question answered. Controls: the oracle's own reward at every step, and
coin flips.

Command: python experiments/oracles.py              (--task keep-pace: 2.5 times the cost)
Cost:    55 runs, some 12 core-minutes
Files:   results/oracles.md
Result:  perfect 4.1 m/s (3.4 to 4.6); Boltzmann, 30 % wrong, 2.4 (1.6 to 3.6); the seven others 3.9 to 4.2; coin flips
         0.0 (-1.0 to 1.3); the oracle's own reward 4.2 (4.0 to 4.3)
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace

import feedback

from rlhf_control.config import AnnotatorConfig, FinetuneConfig
from rlhf_control.errors import guarded


def conditions(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    def judged(**departure: float) -> FinetuneConfig:
        return replace(base, annotator=AnnotatorConfig(**departure))  # type: ignore[arg-type]

    return {
        "perfect": base,
        "Boltzmann, temperature 1": replace(base, oracle_temperature=1.0),
        "mistakes, 10 %": judged(mistake=0.1),
        "skips the worst 10 %": judged(skip=0.1),
        "ties within 0.1 sd": judged(equal=0.1),
        "myopic, 0.9 a step": judged(discount=0.9),
        "place alone, 10 %": judged(position_bias=0.1),
        "tires, 1 % an answer": judged(fatigue=0.01),
        "drifts, 10 % a round": judged(drift=0.1),
        "oracle's reward": replace(base, learn_from="oracle"),
        "coin flips": replace(base, oracle="coin-flip", score=base.oracle),
    }


def main() -> None:
    arguments = feedback.options(__doc__)
    every = conditions(feedback.base(arguments))
    columns = ("score", "mean_score", "accuracy", "labels", "wrong", "ties", "cannot_tell")
    feedback.experiment("oracles", "Annotators who are not perfect", [feedback.Part(every, columns)], arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
