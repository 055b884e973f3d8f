"""Can a hundred comparisons teach a running cheetah something that its environment's reward does not state?

A pretrained HalfCheetah-v5 policy that runs forward learns to run backward from 100 answers of a synthetic oracle about
pairs of 1.5-second clips of its own behaviour. What it must do is known to the oracle alone.

Command: make demo          (or: python experiments/quickstart.py)
Cost:    about a minute on two cores
Result:  runs/quickstart/report.md; over five seeds see quickstart_seeds.py
Stopped half-way it goes on where it was when it is started again.
"""

import json
import sys
from pathlib import Path

from demos import show

from rlhf_control.config import FinetuneConfig, ReferenceConfig
from rlhf_control.errors import guarded

OUT = Path("runs/quickstart")
SEEDS = Path(__file__).parent / "results" / "quickstart_seeds.json"
CONFIG = FinetuneConfig(
    "halfcheetah", oracle="backward", labels=100, total_steps=250_000, seed=0, out=str(OUT),
    shrink=0.1, reference=ReferenceConfig("round", beta=0.02),  # the old skill is the opposite of the new one
)  # fmt: skip


def seeds_note() -> str:
    """What five seeds gave, as one sentence for the report."""
    votes = json.loads(SEEDS.read_text())["arms"]["votes"]
    scores = ", ".join(f"{run['score_mean']:.1f}" for run in votes)
    return f"Five seeds of this run, measured by `python experiments/quickstart_seeds.py`, gave {scores} m/s backward."


def demo() -> None:
    show(
        "Teaching a running cheetah to run backward, from 100 comparisons of its own clips.", CONFIG, note=seeds_note()
    )


if __name__ == "__main__":
    sys.exit(guarded(demo))
