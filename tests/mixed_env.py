"""An environment that shows numbers of several dtypes side by side: `Mixed-v0`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Mixed(gymnasium.Env):
    """Shows its step as a float, its action as words, and a gear. It lasts seven steps."""

    observation_space = Dict(
        {"arm": Box(-9, 9, (2,), np.float32), "gear": Discrete(3), "words": Box(0, 99, (3,), np.int64)}
    )
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.last = 0, np.zeros(2, np.float32)
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.steps, self.last = self.steps + 1, action
        return self.observe(), float(action.sum()), False, self.steps == 7, {}

    def observe(self) -> dict[str, Any]:
        words = np.array([self.steps, *(50 + 49 * self.last).astype(np.int64)])
        return {"arm": np.array([self.steps, self.last[0]], np.float32), "gear": self.steps % 3, "words": words}


if "Mixed-v0" not in gymnasium.registry:
    gymnasium.register("Mixed-v0", Mixed)
