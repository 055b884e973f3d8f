from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.envs.arm.playing import OPEN, SHUT, grip, play


@pytest.mark.parametrize("seed", range(3))
def test_a_block_that_is_gripped_is_lifted_and_held(seed):
    def towards(env: Any, t: int) -> tuple[np.ndarray, float]:
        block, goal = env.data.body("block").xpos, env.data.body("target").xpos
        if t < 30:
            return block - grip(env) + [0, 0, 0.08 if t < 18 else 0], OPEN
        return (goal - block if t > 36 else np.zeros(3)), SHUT

    env = gymnasium.make("rlhf/ArmGrasp-v0")
    env.reset(seed=seed)
    infos = play(env, 75, towards)
    assert all(info["success"] for info in infos[-10:]) and not infos[30]["success"]
    assert infos[-1]["distance"] < 0.01 and infos[-1]["height"] > 0.09
    assert infos[0]["reward"] < infos[33]["reward"] < infos[-1]["reward"] < 2.75
    assert infos[-1]["reward"] == pytest.approx(sum(v for k, v in infos[-1].items() if k.startswith("reward_")))
