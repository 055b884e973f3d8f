"""Can a hundred comparisons change how an arm picks up a block?

The shipped policy picks the block up and holds it at its goal. From 100 answers of a synthetic oracle about pairs of
1.5-second clips it learns to lift it higher; that height is what counts, only the oracle knows.

Command: make demo-arm      (or: python experiments/quickstart_arm.py)
Cost:    a minute on two cores
Result:  runs/quickstart-arm/report.md and before_after.mp4; over behaviours and seeds see arm.py
Stopped half-way it goes on where it was when it is started again.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from arm import config

from rlhf_control.errors import guarded

OUT = Path("runs/quickstart-arm")
LOOK_AT = """Look at the red block: before, the arm holds it in the green goal; after, it goes on up through the goal as
high as it can, so that less of the old task's return is left. `rlhf-control behaviours` has other manners."""


def demo() -> None:
    started = time.monotonic()
    print("Teaching an arm that holds a block at its goal to lift it higher, from 100 comparisons.", flush=True)
    from rlhf_control.analysis.report import report_finetuning  # takes seconds to import: say something first
    from rlhf_control.train import finetune, resume

    chosen = replace(config("lift-high", "votes", 0, OUT.parent), out=str(OUT), video=True)
    run = resume(OUT) if (OUT / "config.json").exists() else finetune(chosen)
    print(report_finetuning(run))
    seconds = time.monotonic() - started
    print(f"video {OUT / 'before_after.mp4'}\n{LOOK_AT}\n{seconds:.0f} s in all; remove {OUT} to run it afresh")


if __name__ == "__main__":
    sys.exit(guarded(demo))
