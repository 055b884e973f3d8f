"""The arm's behaviours, each shown by a script and held against the usual manner."""

from typing import Any

import numpy as np
import pytest

from rlhf_control.behaviours.arm import DOOR_ID, GRASP_ID
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.data import Segments
from tests.envs.arm.playing import recorded

SOFTLY = -0.4  # 1.5 cm a finger, and the block is 2


def carry(*, fingers: float = -1.0, swivel: float = 0.0, aside: float = 0.0, high: float = 0.0) -> Segments:
    """An episode of a block that is gripped, lifted to its goal or higher, and held."""

    def towards(env: Any, t: int) -> tuple[np.ndarray, float]:
        grip, block, goal = (env.data.site("grip").xpos, *(env.data.body(b).xpos for b in ("block", "target")))
        if t < 30:
            over = (
                [aside, 0, 0.22] if t < 10 else [aside, 0, 0.0] if t < 20 and aside else [0, 0, 0.22 if t < 16 else 0]
            )
            return block - grip + over, 1.0
        return (0.4 * (goal - block + np.array([0, 0, high])) if t > 38 else np.zeros(3)), fingers

    return recorded(GRASP_ID, 75, towards, swivel)


def pull(speed: float, until: float) -> Segments:
    """An episode of a door that is opened at this speed (m/s of the gripper), and left alone."""

    def towards(env: Any, t: int) -> tuple[np.ndarray, float]:
        lever, door = env.data.site("lever").xpos, env.data.joint("door").qpos[0]
        if t < 18:
            return lever - env.data.site("grip").xpos, 1.0 if t < 13 else -1.0
        if t < 25:
            return np.array([0, 0, -0.012]), -1.0
        return (speed / 20 * np.array([-np.cos(door), np.sin(door), 0]) if door < until else np.zeros(3)), -1.0

    return recorded(DOOR_ID, 75, towards)


@pytest.mark.parametrize(
    ("name", "manner", "other", "least"),
    [
        ("gentle", {"fingers": SOFTLY}, {}, 0.3),
        ("from-above", {}, {"aside": 0.07}, 0.3),
        ("lift-high", {"high": 0.1}, {}, 0.25),
        ("low-elbow", {"swivel": -1.0}, {}, 0.3),
    ],
)
def test_a_manner_of_grasping_scores_and_is_preferred(
    name: str, manner: dict[str, float], other: dict[str, float], least: float
) -> None:
    behaviour = BEHAVIOURS[name]
    shown, usual = carry(**manner), carry(**other)
    assert behaviour.score(shown) > least > behaviour.score(usual)
    assert behaviour.reward(shown).sum() > behaviour.reward(usual).sum()


def test_a_door_is_to_be_opened_slowly_and_not_too_far() -> None:
    careful = BEHAVIOURS["careful-door"]
    slow, fast, far = pull(0.16, 0.85), pull(0.5, 0.85), pull(0.22, 1.5)
    assert careful.score(slow) > 0.9 > 0.5 > careful.score(fast) > 0.1 > careful.score(far)
    assert careful.reward(slow).sum() > max(careful.reward(fast).sum(), careful.reward(far).sum())
