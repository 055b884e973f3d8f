"""What does fine-tuning on pictures take: peak memory, and the size of a checkpoint, for 8 environments of 84 x 84 x 4
and rollouts of 128 steps?

Command: python experiments/picture_memory.py
Cost:    two minutes
Result:  results/picture_memory.json
"""

import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
from common import keep
from gymnasium.spaces import Box, Discrete

from rlhf_control import train
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig
from rlhf_control.errors import guarded
from rlhf_control.runs.machine import environment_facts

PPO = PPOConfig(num_envs=8, num_steps=128, epochs=1, minibatch_size=256)
STEPS = PPO.num_envs * PPO.num_steps


class Falling(gymnasium.Env):
    """Shows the last four grey pictures of a square that falls under a flickering sky."""

    metadata = {"render_modes": [], "render_fps": 15}  # noqa: RUF012
    observation_space, action_space = Box(0, 255, (84, 84, 4), np.uint8), Discrete(4)

    def __init__(self, **_: Any) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observe(), float(action == 1), False, False, {}

    def observe(self) -> np.ndarray:
        picture, top = np.zeros((84, 84, 4), np.uint8), self.steps % 70
        picture[::7] = 90
        for k in range(4):
            picture[top + k : top + k + 9, (3 * top) % 70 : (3 * top) % 70 + 9, k] = 200
        picture[:12] = self.np_random.integers(0, 2, (12, 84, 1), np.uint8) * 60
        return picture


def run() -> int:
    gymnasium.register("Falling-v0", Falling, max_episode_steps=500)
    with TemporaryDirectory() as name:
        folder = Path(name)
        train.pretrain(PretrainConfig("Falling-v0", total_steps=STEPS, ppo=PPO, out=str(folder / "start")))
        config = FinetuneConfig(
            str(folder / "start"), oracle="env", labels=20, first_labels=10, rounds=2, total_steps=6 * STEPS, ppo=PPO,
            out=str(folder / "run"), video=False, checkpoint_seconds=0, guard=GuardConfig(chance="off"),
        )  # fmt: skip
        checkpoint = max((train.finetune(config).path / "checkpoints").glob("*.npz"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found = {"peak_gb": round(peak / 1e9, 2), "checkpoint_mb": round(checkpoint.stat().st_size / 1e6, 1)}
    print(found)
    keep("picture_memory", {"command": "python experiments/picture_memory.py", **environment_facts(), **found})
    return 0


if __name__ == "__main__":
    sys.exit(guarded(run))
