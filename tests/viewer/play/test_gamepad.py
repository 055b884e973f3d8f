from typing import Any

import gymnasium
import numpy as np

from rlhf_control.viewer.play.controls import find_controls
from rlhf_control.viewer.play.gamepad import Gamepad
from tests.viewer.play.pads import Pad

ARM = ("x", "y", "z", "gripper")


def test_sticks_push_in_the_order_of_the_action_and_triggers_the_gripper() -> None:
    assert not Gamepad(Pad()).shares(ARM).any() and not Gamepad().shares(ARM).any()
    assert not Gamepad(Pad(axis_2=0.0, axis_5=0.0)).shares(ARM).any()  # before the triggers have moved
    for axes, expected in (
        ({"axis_0": 0.5}, [0.5, 0, 0, 0]), ({"axis_1": -1.0}, [0, 1, 0, 0]), ({"axis_4": 0.8}, [0, 0, -0.8, 0]),
        ({"axis_5": 1.0}, [0, 0, 0, 1]), ({"axis_2": 0.0}, [0, 0, 0, -0.5]), ({"axis_0": 0.1}, [0, 0, 0, 0]),
    ):  # fmt: skip
        np.testing.assert_allclose(Gamepad(Pad(**axes)).shares(ARM), expected)
    np.testing.assert_allclose(Gamepad(Pad((5,), axis_3=1.0)).shares(tuple("abcdef")), [0, 0, 0, 1, 0, 1])


def test_a_push_is_an_action_of_a_box_within_its_bounds() -> None:
    controls = find_controls(gymnasium.make("Pusher-v5"), "Pusher-v5")
    assert Gamepad(Pad()).action(controls) is None
    action: Any = Gamepad(Pad(axis_0=-0.5, axis_1=-1.0)).action(controls)
    np.testing.assert_allclose(action, [-1, 2, 0, 0, 0, 0, 0])
    cart = find_controls(gymnasium.make("CartPole-v1"), "CartPole-v1")
    assert Gamepad(Pad(axis_0=1.0)).action(cart) is None and Gamepad(Pad(axis_0=1.0)).keys() == {"right"}
    assert Gamepad(Pad(hat=(-1, 1))).keys() == {"left", "up"} and Gamepad().keys() == set()


def test_a_button_means_something_once_for_each_press() -> None:
    pad = Pad((0, 1))
    gamepad = Gamepad(pad)
    assert gamepad.commands() == ["switch", "take back"] and gamepad.commands() == []
    pad.buttons = ()
    assert gamepad.commands() == []
    pad.buttons = (0,)
    assert gamepad.commands() == ["switch"] and Gamepad().commands() == []
