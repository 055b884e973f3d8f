"""What stands for a gamepad."""


class Pad:
    """Stands for pygame's joystick: an Xbox controller at rest."""

    def __init__(self, buttons: tuple[int, ...] = (), hat: tuple[int, int] = (0, 0), **axes: float) -> None:
        self.buttons, self.hat = buttons, hat
        self.axes = [axes.get(f"axis_{i}", -1.0 if i in (2, 5) else 0.0) for i in range(6)]

    def get_numaxes(self) -> int:
        return 6

    def get_axis(self, number: int) -> float:
        return self.axes[number]

    def get_numbuttons(self) -> int:
        return 11

    def get_button(self, number: int) -> bool:
        return number in self.buttons

    def get_numhats(self) -> int:
        return 1

    def get_hat(self, number: int) -> tuple[int, int]:
        return self.hat
