"""Can a hundred comparisons change how an arm picks up a block?

The shipped policy picks the block up and holds it at its goal. From 100 answers of a synthetic oracle about pairs of
1.5-second clips it learns to lift it higher; that height is what counts, only the oracle knows.

Command: make demo-arm      (or: python experiments/quickstart_arm.py)
Cost:    a minute on two cores
Result:  runs/quickstart-arm/report.md and before_after.mp4; over behaviours and seeds see arm.py
Stopped half-way it goes on where it was when it is started again.
"""

import sys
from dataclasses import replace
from pathlib import Path

from arm import config
from demos import show

from rlhf_control.errors import guarded

OUT = Path("runs/quickstart-arm")
LOOK_AT = """Look at the red block: before, the arm holds it in the green goal; after, it goes on up through the goal as
high as it can, so that less of the old task's return is left. `rlhf-control behaviours` has other manners."""


def demo() -> None:
    said = "Teaching an arm that holds a block at its goal to lift it higher, from 100 comparisons."
    show(said, replace(config("lift-high", "votes", 0, OUT.parent), out=str(OUT), video=True), look_at=LOOK_AT)


if __name__ == "__main__":
    sys.exit(guarded(demo))
