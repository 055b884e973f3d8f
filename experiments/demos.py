"""What the demos have in common: quickstart.py, quickstart_arm.py and quickgame.py."""

import time
from pathlib import Path

from rlhf_control.config import FinetuneConfig


def show(said: str, config: FinetuneConfig, *, note: str = "", look_at: str = "") -> None:
    """Says what is done, fine-tunes or goes on with what is there, and tells what came of it. `note`: a paragraph of
    the report; `look_at`: what to see in the video."""
    started, out = time.monotonic(), Path(config.out)
    print(said, flush=True)
    from rlhf_control.analysis.report import report_finetuning  # takes seconds to import: say something first
    from rlhf_control.train import finetune, resume

    run = resume(out) if (out / "config.json").exists() else finetune(config)
    print(report_finetuning(run, note))
    print(f"video {out / 'before_after.mp4'}")
    if look_at:
        print(look_at)
    print(f"{time.monotonic() - started:.0f} s in all; remove {out} to run it afresh")
