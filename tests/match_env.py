"""An environment for every kind of action space, with Dict observations: `Match-v0`, registered by conftest."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

ACTIONS = {
    "box": Box(np.array([-2.0, 0.5], np.float32), np.array([-1.0, 3.0], np.float32)),
    "discrete": Discrete(3, start=5),
    "multi-discrete": MultiDiscrete([2, 3, 4], start=[1, 0, -1]),
    "multi-binary": MultiBinary((2, 2)),
    "flat-multi-discrete": MultiDiscrete([2, 3, 4]),  # the only ones that Stable-Baselines3 knows
    "flat-multi-binary": MultiBinary(4),
}


class Match(gymnasium.Env):
    """Observes a Dict that holds the wanted action; the reward is 1 less the distance to it."""

    def __init__(self, kind: str = "box") -> None:
        self.action_space = ACTIONS[kind]
        size = int(np.prod(self.action_space.shape or (1,)))
        self.observation_space = Dict({"z": Box(-9, 9, (size,)), "a": Discrete(3), "m": Box(0, 1, (2, 2))})

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.action_space.seed(int(self.np_random.integers(2**31)))
        return self.observe(), {}

    def observe(self) -> Any:
        self.wanted = np.asarray(self.action_space.sample(), np.float32).ravel()
        return {"z": self.wanted, "a": int(self.np_random.integers(3)), "m": np.full((2, 2), 0.5, np.float32)}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is no action"
        reward = 1 - np.abs(np.asarray(action, np.float32).ravel() - self.wanted).mean()
        return self.observe(), float(reward), False, False, {}
