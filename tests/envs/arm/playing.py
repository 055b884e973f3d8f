"""The arm under a script instead of a policy."""

from typing import Any

import gymnasium
import numpy as np

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
