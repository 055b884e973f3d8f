"""Can comparisons teach a game's player to hurry?

The shipped policy of Orchard, which sees the game as planes and picks nearly all fruits in its own time, learns to pick
them sooner, from 200 answers of a synthetic oracle about pairs of two-second clips. The score of the game does not say
when a fruit is to be picked.

Command: make demo-game          (or: python experiments/quickgame.py)
Cost:    some two minutes on two cores
Result:  runs/quickgame/report.md
Stopped half-way it goes on where it was when it is started again.
"""

import sys
import time
from pathlib import Path

from rlhf_control.config import FinetuneConfig, PPOConfig
from rlhf_control.errors import guarded

OUT = Path("runs/quickgame")
CONFIG = FinetuneConfig(
    "orchard-planes", oracle="hurry", labels=200, first_labels=60, rounds=5, clip_seconds=2.0, total_steps=30_720,
    ppo=PPOConfig(num_envs=16, num_steps=128, minibatch_size=256, epochs=3, lr=5e-4, entropy_coef=0.01), out=str(OUT),
)  # fmt: skip


def demo() -> None:
    started = time.monotonic()
    print("Teaching a player to hurry, from 200 comparisons of its own clips.", flush=True)
    from rlhf_control.analysis.report import report_finetuning  # takes seconds to import: say something first
    from rlhf_control.train import finetune, resume

    run = resume(OUT) if (OUT / "config.json").exists() else finetune(CONFIG)
    print(report_finetuning(run))
    seconds = time.monotonic() - started
    print(f"video {OUT / 'before_after.mp4'}\n{seconds:.0f} s in all; remove {OUT} to run it afresh")


if __name__ == "__main__":
    sys.exit(guarded(demo))
