"""Environments of any spaces, with observations at random: `Shown-v0`."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from stable_baselines3 import PPO

PICTURE = Box(0, 255, (40, 44, 3), np.uint8)
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)
ACTION = Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 3.0], np.float32))
SPACES: dict[str, tuple[Space, Space]] = {
    "box": (VECTOR, ACTION),
    "discrete": (VECTOR, Discrete(3)),
    "multi-discrete": (VECTOR, MultiDiscrete([2, 3, 4])),
    "multi-binary": (VECTOR, MultiBinary(4)),
    "choice-seen": (Discrete(5), Discrete(3)),
    "picture": (PICTURE, Discrete(3)),
    "small-picture": (Box(0, 255, (20, 20, 3), np.uint8), Discrete(3)),
    "channels-first": (Box(0, 255, (4, 40, 44), np.uint8), ACTION),
    "dict": (Dict([("v", VECTOR), ("a", Discrete(4)), ("m", Box(-1, 1, (2, 2)))]), ACTION),
    "mixed": (Dict([("v", VECTOR), ("img", PICTURE), ("a", Discrete(4))]), ACTION),
}


class Shown(gymnasium.Env):
    """Shows what its space has; a reward of noise; episodes of 10 steps."""

    def __init__(self, kind: str = "box") -> None:
        self.observation_space, self.action_space = deepcopy(SPACES[kind])  # each draws from its own

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.sample(), float(self.np_random.normal()), False, self.steps == 10, {}


gymnasium.register("Shown-v0", Shown, disable_env_checker=True)


def samples(kind: str, n: int = 40) -> Any:
    """(raw observations stacked as SB3 takes them, the same packed (n, O) as ours are)."""
    from rlhf_control.spaces import packing

    space = SPACES[kind][0]
    space.seed(1)
    drawn = [space.sample() for _ in range(n)]
    pack = packing(space)[1] if not isinstance(space, Discrete) else lambda one: np.eye(space.n, dtype=np.float32)[one]
    raw = (
        {key: np.stack([one[key] for one in drawn]) for key in drawn[0]}
        if isinstance(drawn[0], dict)
        else np.stack(drawn)
    )
    return raw, np.stack([pack(one) for one in drawn])


def saved(path: Path, kind: str, policy: str = "MlpPolicy", algorithm: Any = PPO, **kwargs: Any) -> Any:
    """A model away from where it began, and its file."""
    torch.manual_seed(0)
    model = algorithm(policy, Shown(kind), seed=0, device="cpu", policy_kwargs=kwargs)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += (0.02 if parameter.ndim > 1 else 0.2) * torch.randn_like(parameter)
    model.save(path)
    return model
