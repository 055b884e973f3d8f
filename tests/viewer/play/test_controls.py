from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlhf_control.errors import UserError
from rlhf_control.viewer.play.controls import Choices, Controls, Pushes, find_controls
from tests.hands import pygame


def controls(env_id: str) -> Controls:
    env = gymnasium.make(env_id)
    found = find_controls(env, env_id)
    env.close()
    return found


class Game(gymnasium.Env):
    """Keys of its own, in all the ways that environments give them."""

    observation_space = Box(0, 1, (1,))

    def __init__(self, space: gymnasium.Space, keys: Any = None) -> None:
        self.action_space = space
        if keys is not None:
            self.get_keys_to_action = lambda: keys


def test_cart_pole_pushes_to_both_sides_while_no_key_is_held() -> None:
    c = controls("CartPole-v1")
    assert [c.action(set(), t) for t in range(4)] == [0, 1, 0, 1]
    assert [c.action({"right"}, t) for t in range(3)] == [1, 1, 1]
    assert c.executed(1).tolist() == [0, 1]
    assert [row.does for row in c.rows] == ["push left", "push right", "push left and push right by turns"]
    assert c.keys == {"left", "right"}


@pytest.mark.parametrize("env_id", ["MountainCar-v0", "Acrobot-v1"])
def test_left_nothing_right(env_id: str) -> None:
    c = controls(env_id)
    assert [c.action(held, 0) for held in ({"left"}, set(), {"right"}, {"left", "right"}, {"x"})] == [0, 1, 2, 1, 1]


def test_actuators_have_their_models_names() -> None:
    c = controls("HalfCheetah-v5")
    assert isinstance(c, Pushes)
    assert [(row.keys, row.does) for row in c.rows][:2] == [(("q", "a"), "bthigh"), (("w", "s"), "bshin")]
    assert c.action({"q", "s"}, 0).tolist() == [1, -1, 0, 0, 0, 0]
    assert c.action({"q", "s", "left shift"}, 0).tolist() == [0.5, -0.5, 0, 0, 0, 0]
    assert c.action({"q", "a"}, 0).tolist() == [0] * 6
    assert c.action(set(), 0).dtype == np.float32
    assert [row.does for row in controls("Hopper-v5").rows] == ["thigh", "leg", "foot"]
    assert len(controls("Ant-v5").keys) == 16


def test_few_numbers_have_the_arrows() -> None:
    pendulum = controls("Pendulum-v1")
    assert pendulum.action({"left"}, 0).tolist() == [2.0]  # a positive torque turns it to the left
    assert controls("Reacher-v5").keys == {"left", "right", "up", "down"}


def test_a_number_that_is_never_0_rests_at_its_bound() -> None:
    c = find_controls(Game(Box(np.array([0.5, -np.inf]), np.array([2.0, np.inf]), dtype=np.float64)), "Game")
    assert c.action(set(), 0).tolist() == [0.5, 0.0]
    assert c.action({"right", "up"}, 0).tolist() == [2.0, 1.0]


def test_an_environments_own_keys() -> None:
    keys = {(): 0, "w": 1, (pygame.K_SPACE,): 2, (ord("w"), ord(" ")): 3, 276: 4}
    c = find_controls(Game(Discrete(5), keys), "Game")
    assert isinstance(c, Choices)
    held: list[set[str]] = [set(), {"w"}, {"space"}, {"w", "space"}, {"left"}, {"left", "x"}]
    assert [c.action(h, 0) for h in held] == [0, 1, 2, 3, 4, 4]


def test_numbers_choose_where_nothing_better_is_known() -> None:
    c = find_controls(Game(Discrete(3, start=5)), "Game")
    assert [c.action({str(i)}, 0) for i in (1, 2, 3, 4)] == [5, 6, 7, 5]
    assert c.executed(7).tolist() == [0, 0, 1]


@pytest.mark.parametrize("space", [Discrete(20), MultiDiscrete([2, 2])])
def test_what_keys_cannot_give_is_refused(space: gymnasium.Space) -> None:
    with pytest.raises(UserError, match="which keys cannot give"):
        find_controls(Game(space), "Game")
    with pytest.raises(UserError, match="Humanoid-v5 has 17 numbers in an action, and keys can give 8"):
        controls("Humanoid-v5")


def test_an_arm_says_what_its_numbers_do_and_its_gripper_stays_as_it_was() -> None:
    controls = find_controls(gymnasium.make("rlhf/ArmGrasp-v0"), "rlhf/ArmGrasp-v0")
    assert isinstance(controls, Pushes)
    assert [row.does for row in controls.rows] == ["forward, back", "left, right", "up, down", "turn", "gripper"]
    closed = np.float32([0.3, 0.3, 0.3, 0.3, -1])
    np.testing.assert_array_equal(controls.action({"q", "d"}, 0, closed), [1, 0, -1, 0, -1])
    np.testing.assert_array_equal(controls.action({"y"}, 0, closed), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(controls.action(set(), 0), np.zeros(5))
    joints = find_controls(gymnasium.make("rlhf/ArmGrasp-v0", control="joint"), "rlhf/ArmGrasp-v0")
    assert joints.rows[6].does == "joint 7" and joints.rows[7].does == "gripper"
