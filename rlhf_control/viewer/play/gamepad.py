"""From a gamepad's sticks and buttons to an environment's action. Buttons and axes are numbered as SDL numbers those of
an Xbox controller, which most others imitate.

A numbers of an action.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_control.data import Array
from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.play.controls import Controls, Pushes

DEAD = 0.15  # of a stick's way from the middle in which it says nothing
# (axis, sign) by turns, for the numbers of an action in their order: left stick right and up, right stick up and right
STICKS = ((0, 1), (1, -1), (4, -1), (3, 1))
TRIGGERS = (5, 2)  # right for more, left for less; they rest at -1
SHOULDERS = (5, 4)  # buttons, likewise
SWITCH, RESTART, BACK = 0, 7, 1  # buttons: A takes over and gives back, Start begins anew, B takes back
COMMANDS = {SWITCH: "switch", RESTART: "restart", BACK: "take back"}
ARROWS = (("left", "right"), ("down", "up"))


class Gamepad:
    """Reads one gamepad; `joystick` stands for pygame's, None where there is none."""

    def __init__(self, joystick: Any = None) -> None:
        self.joystick = joystick
        self._down: set[int] = set()
        self._seen_triggers = False

    @classmethod
    def first(cls) -> "Gamepad":
        """Opens the first gamepad that is connected, if there is any."""
        pygame.joystick.init()
        return cls(pygame.joystick.Joystick(0) if pygame.joystick.get_count() else None)

    def commands(self) -> list[str]:
        """Returns what the buttons that went down since the last call mean."""
        if self.joystick is None:
            return []
        down = {button for button in COMMANDS if self._button(button)}
        pressed, self._down = sorted(down - self._down), down
        return [COMMANDS[button] for button in pressed]

    def shares(self, names: Sequence[str]) -> Array:
        """Returns how far each number of an action is pushed, (A,) from -1 to 1: by sticks, then triggers, shoulders
        and the cross. A number called gripper gets the triggers."""
        if self.joystick is None:
            return np.zeros(len(names))
        values = [sign * self._axis(axis) for axis, sign in STICKS]
        rest = [self._trigger(), float(self._button(SHOULDERS[0])) - float(self._button(SHOULDERS[1])), *self._cross()]
        grippers = [i for i, name in enumerate(names) if "grip" in name.lower()][:1]
        others = [i for i in range(len(names)) if i not in grippers]
        found = np.zeros(len(names))
        found[grippers] = rest[0]
        pushed = [*values, *(rest[1:] if grippers else rest)]
        found[others[: len(pushed)]] = pushed[: len(others)]
        return found

    def keys(self) -> set[str]:
        """Returns the arrow keys that the left stick or the cross stands for."""
        if self.joystick is None:
            return set()
        ways = np.array([self._axis(0), -self._axis(1)]) + self._cross()
        return {ARROWS[i][int(way > 0)] for i, way in enumerate(ways) if abs(way) > 0.5}

    def action(self, controls: Controls, last: Array | None = None) -> Any | None:
        """Returns the action of a Box that it stands for, after the action `last` (A,); None while it stands for
        none."""
        if not isinstance(controls, Pushes) or not (shares := self.shares(controls.names)).any():
            return None
        push = np.where(shares > 0, shares * controls.high, -shares * controls.low)
        if last is not None:
            kept = [i for i in controls.kept if not shares[i]]
            push[kept] = last[kept]
        return push.clip(controls.low, controls.high).astype(controls.dtype).reshape(controls.shape)

    def _button(self, number: int) -> bool:
        return number < self.joystick.get_numbuttons() and bool(self.joystick.get_button(number))

    def _axis(self, number: int) -> float:
        value = self.joystick.get_axis(number) if number < self.joystick.get_numaxes() else 0.0
        return 0.0 if abs(value) < DEAD else float(value)

    def _trigger(self) -> float:
        """From -1 (left) to 1 (right). Until one has moved, SDL gives 0 for both, as if they were half pressed."""
        if max(TRIGGERS) >= self.joystick.get_numaxes():
            return 0.0
        right, left = (float(self.joystick.get_axis(axis)) for axis in TRIGGERS)
        self._seen_triggers = self._seen_triggers or right != 0 or left != 0
        value = ((right + 1) - (left + 1)) / 2 if self._seen_triggers else 0.0
        return 0.0 if abs(value) < DEAD else value

    def _cross(self) -> tuple[float, float]:
        x, y = self.joystick.get_hat(0) if self.joystick.get_numhats() else (0, 0)
        return float(x), float(y)
