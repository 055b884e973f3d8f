"""Which clips are worth asking about?

Every strategy of rlhf_control/queries/strategies.py at 40 answers, 8 a round. No random share, which would water the
strategies down; in the first round, when there is no model yet, all but k-center choose at random.

Command: python experiments/query_strategies.py     (--task keep-pace: 2.5 times the cost)
Cost:    35 runs, some 7 core-minutes
Files:   results/query_strategies.md
Result:  all between 3.6 and 4.4 m/s, intervals overlapping; uniform 4.0 (3.3 to 4.7)
         (five seeds, interquartile means and 95 % intervals)
"""

import sys
from dataclasses import replace

import feedback

from rlhf_control.config import FinetuneConfig, QueryConfig
from rlhf_control.errors import guarded
from rlhf_control.queries.strategies import STRATEGIES

ANSWERS = 40


def conditions(base: FinetuneConfig) -> dict[str, FinetuneConfig]:
    few = feedback.budget(base, ANSWERS, query=QueryConfig(random_share=0.0))
    return {name: replace(few, queries=name) for name in STRATEGIES}  # uniform comes first


def main() -> None:
    arguments = feedback.options(__doc__)
    every = conditions(feedback.base(arguments))
    columns = ("score", "mean_score", "accuracy", "accuracy_before", "labels")
    part = feedback.Part(every, columns)
    feedback.experiment("query_strategies", f"Query strategies at {ANSWERS} answers", [part], arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
