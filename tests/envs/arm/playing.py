"""The arm under a script instead of a policy."""

from contextlib import closing
from typing import Any

import gymnasium
import numpy as np

from rlhf_control.data import Segments

OPEN, SHUT = 1.0, -1.0


def play(env: gymnasium.Env, steps: int, towards: Any) -> list[dict[str, Any]]:
    """Steps by where `towards(env, t)` has the gripper go (3,) m from where it is, and how its fingers are."""
    infos = []
    for t in range(steps):
        way, fingers = towards(env.unwrapped, t)
        _, reward, terminated, _, info = env.step(np.array([*np.clip(way / 0.025, -1, 1), 0, fingers], np.float32))
        assert not terminated
        infos.append({"reward": reward, **info})
    return infos


def grip(env: Any) -> np.ndarray:
    return env.data.site("grip").xpos


def recorded(env_id: str, steps: int, towards: Any, swivel: float = 0.0, seed: int = 1) -> Segments:
    """What `play` does, as the steps (L, ...) of an episode with their states."""
    with closing(gymnasium.make(env_id)) as env:
        obs, _ = env.reset(seed=seed)
        bare: Any = env.unwrapped
        rows = []
        for t in range(steps):
            way, fingers = towards(bare, t)
            state = bare.state_vector()
            action = np.array([*np.clip(way / 0.025, -1, 1), swivel, fingers], np.float32)
            next_obs, reward, *_ = env.step(action)
            rows.append((obs, action, next_obs, reward, state))
            obs = next_obs
    return Segments(*(np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), "ffffd", strict=True)))
