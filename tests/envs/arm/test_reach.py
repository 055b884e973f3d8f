from typing import Any

import gymnasium
import numpy as np

from tests.envs.arm.playing import grip


def test_reaching_is_success_and_may_end_the_episode():
    env = gymnasium.make("rlhf/ArmReach-v0", terminate_on_success=True, reward="sparse")
    env.reset(seed=2)
    for _ in range(50):
        unwrapped: Any = env.unwrapped
        way = unwrapped.data.body("target").xpos - grip(unwrapped)
        action = np.array([*np.clip(way / 0.025, -1, 1), 0, 0], np.float32)
        _, reward, terminated, _, info = env.step(action)
        assert reward == info["success"] == terminated == (info["distance"] < 0.02)
        if terminated:
            return
    raise AssertionError("it never came there")
