"""How well does the reward model put up with annotators who are not perfect?

B-Pref's six annotators (arXiv 2111.03026), with its constants relative to the spread of returns in the pool, and three
more: one who prefers a place on the screen, one who tires within a round, one whose preference drifts; more mistakes,
and mistakes that depend on the clips (arXiv 2601.01904): where they look alike or move fast, or, by Boltzmann, where
their returns differ little. The same number of questions to each; "cannot tell" counts as a question answered.
Controls: the oracle's own reward at every step, and coin flips. Then several annotators who answer by turns, of whom
one may always say the opposite of the truth: how far each is to be trusted is learned from the answers.

Command: python experiments/oracles.py              (--task keep-pace: 2.5 times the cost)
Cost:    90 runs, some 10 core-minutes
Files:   results/oracles.md
Result:  perfect 4.5 m/s (4.4 to 4.7); 10, 20 and 30 % mistakes 4.3, 3.8 (2.7 to 4.7) and 2.8 (2.1 to 4.2); where clips
         look alike 4.0 (3.2 to 5.0), where they move fast 3.0 (0.5 to 4.4); Boltzmann, 25 % wrong, 4.0 (2.7 to 4.8);
         the six others 4.5 to 4.7; coin flips 0.0 (0.0 to 0.1); the oracle's own reward 4.7 (4.2 to 5.1). So 20 %
         mistakes leave 80 % of what the reward brings from standing still. A liar among four costs no score, whether it
         is found out (4.7) or not (4.8), beside three honest ones (4.6): 400 answers are more than are needed here. By
         networks alone 20 and 30 % mistakes came to 4.0 (2.7 to 4.5) and 3.6 (3.2 to 3.9).
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace

import feedback

from rlhf_control.config import AnnotatorConfig, FinetuneConfig
from rlhf_control.errors import guarded

CROWD_ANSWERS = 400


def conditions(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    def judged(**departure: float) -> FinetuneConfig:
        return replace(base, annotator=AnnotatorConfig(**departure))  # type: ignore[arg-type]

    return {
        "perfect": base,
        "Boltzmann, temperature 1": replace(base, oracle_temperature=1.0),
        "mistakes, 10 %": judged(mistake=0.1),
        "mistakes, 20 %": judged(mistake=0.2),
        "mistakes, 30 %": judged(mistake=0.3),
        "mistakes where clips look alike, some 20 %": judged(mistake_alike=0.4),
        "mistakes where clips move fast, some 20 %": judged(mistake_fast=0.4),
        "skips the worst 10 %": judged(skip=0.1),
        "ties within 0.1 sd": judged(equal=0.1),
        "myopic, 0.9 a step": judged(discount=0.9),
        "place alone, 10 %": judged(position_bias=0.1),
        "tires, 1 % an answer": judged(fatigue=0.01),
        "drifts, 10 % a round": judged(drift=0.1),
        "oracle's reward": replace(base, learn_from="oracle"),
        "coin flips": replace(base, oracle="coin-flip", score=base.oracle),
    }


def crowds(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    def answered(*crowd: float) -> FinetuneConfig:
        return feedback.budget(base, CROWD_ANSWERS, annotator=AnnotatorConfig(crowd=crowd))

    believed = answered(1, 1, 1, -1)
    return {
        "three honest ones": answered(1, 1, 1),
        "three honest ones and a liar": believed,
        "the same, all trusted alike": replace(believed, reward=replace(base.reward, trust=False)),
    }


def main() -> None:
    arguments = feedback.options(__doc__)
    base = feedback.base(arguments)
    columns = ("score", "mean_score", "accuracy", "labels", "wrong", "ties", "cannot_tell")
    parts = [
        feedback.Part(conditions(base), columns, heading="One annotator"),
        feedback.Part(crowds(base), columns, heading=f"Several, {CROWD_ANSWERS} answers", suffix="_crowd"),
    ]
    feedback.experiment("oracles", "Annotators who are not perfect", parts, arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
