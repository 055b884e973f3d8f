"""An environment of somebody else that observes pictures and nothing else: `Pictures-v0`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Pictures(gymnasium.Env):
    """Shows a square, (64, 64, 3), that each action moves left, right or not; to the right is better."""

    metadata = {"render_modes": [], "render_fps": 10}  # noqa: RUF012
    observation_space = Box(0, 255, (64, 64, 3), np.uint8)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.colour = 28, self.np_random.integers(100, 256, 3)
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.at = int(np.clip(self.at + 4 * (int(action) - 1), 0, 56))
        return self.observe(), self.at / 56, False, False, {}

    def observe(self) -> np.ndarray:
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[28:36, self.at : self.at + 8] = self.colour
        return picture


gymnasium.register("Pictures-v0", Pictures, max_episode_steps=40)
