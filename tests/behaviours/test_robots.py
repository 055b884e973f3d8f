"""The rewards by hand; `tests/robotics` has the scores, which need the robots."""

import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.robots import hand_high_reward, reach_from_above_reward
from rlhf_control.data import Segments
from rlhf_control.errors import UserError


def clip(next_obs: list[list[float]]) -> Segments:
    seen = np.array(next_obs, np.float32)
    return Segments(seen * 0, seen[:, :1], seen, np.zeros(len(seen), np.float32))


def test_reach_from_above_is_over_the_goal_and_then_down() -> None:
    """[gripper, goal]: far and high, far and level, over it by 4 cm, there, far and too high."""
    s = clip([
        [0.3, 0, 0.1, 0, 0, 0], [0.3, 0, 0, 0, 0, 0], [0.02, 0, 0.04, 0, 0, 0], [1, 2, 3, 1, 2, 3],
        [0.3, 0, 0.3, 0, 0, 0],
    ])  # fmt: skip
    np.testing.assert_allclose(reach_from_above_reward(s), [-0.3, -0.4, -0.02, 0, -0.5], atol=1e-6)


def test_the_hand_is_high_up_to_a_height() -> None:
    np.testing.assert_allclose(hand_high_reward(clip([[0, 0, 0.1], [5, 5, 0.2], [0, 0, 0.4]])), [0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", ["reach-from-above", "hand-high"])
def test_scores_need_the_simulator(name: str) -> None:
    with pytest.raises(UserError, match="simulator states"):
        BEHAVIOURS[name].score(clip([[0, 0, 0.1, 0, 0, 0]]))
