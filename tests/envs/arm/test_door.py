from typing import Any

import gymnasium
import numpy as np

from envs.arm.door import DOOR, HANDLE
from tests.envs.arm.playing import OPEN, SHUT, grip, play


def open_the_door(env: Any, t: int, *, turning: bool = True) -> tuple[np.ndarray, float]:
    lever, door = env.data.site("lever").xpos, env.data.qpos[DOOR]
    if t < 30:
        return lever - grip(env), OPEN if t < 22 else SHUT
    if t < 40 and turning:
        return np.array([0, 0, -0.009]), SHUT
    return 0.02 * np.array([-np.cos(door), np.sin(door), 0]), SHUT


def test_a_door_opens_once_its_handle_is_turned():
    env = gymnasium.make("rlhf/ArmDoor-v0")
    env.reset(seed=1)
    infos = play(env, 70, open_the_door)
    assert infos[29]["door"] < 0.02 and max(info["handle"] for info in infos[:45]) > 0.4
    assert infos[-1]["success"] and infos[-1]["door"] > 1


def test_a_door_whose_handle_is_not_turned_stays_shut():
    env = gymnasium.make("rlhf/ArmDoor-v0")
    env.reset(seed=1)
    infos = play(env, 70, lambda env, t: open_the_door(env, t, turning=False))
    assert max(info["door"] for info in infos) < 0.1 and not any(info["success"] for info in infos)
    assert env.unwrapped.data.qpos[HANDLE] < 0.3
