"""Can comparisons teach a game's player to keep its paddle at home?

The shipped policy of Bricks, which reads the game as numbers and has its paddle wherever the last ball was, learns to
keep it near the middle, from 200 answers of a synthetic oracle about pairs of two-second clips. The game's score does
not ask for that; beside the behaviour's score the report has the game's own.

Command: make demo-game          (or: python experiments/quickgame.py)
Cost:    about a minute on two cores
Result:  runs/quickgame/report.md and before_after.mp4. Its seed is none on which choices were made: see games.py
Stopped half-way it goes on where it was when it is started again.
"""

import sys
from dataclasses import replace
from pathlib import Path

from demos import show
from games import TASKS

from rlhf_control.config import PPOConfig
from rlhf_control.errors import guarded

OUT = Path("runs/quickgame")
PPO = PPOConfig(num_envs=16, num_steps=128, minibatch_size=128, epochs=6, lr=1e-3)


def demo() -> None:
    config = replace(TASKS["home"], seed=0, ppo=PPO, out=str(OUT))
    show("Teaching a paddle to stay near the middle, from 200 comparisons of its own clips.", config)


if __name__ == "__main__":
    sys.exit(guarded(demo))
