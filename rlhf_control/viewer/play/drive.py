"""A drive in progress: when to step, what to draw, and what the person at the keys may do.

H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.viewer.kit.canvas import (
    BACKGROUND,
    GOOD,
    LINE,
    MUTED,
    PANEL,
    RAISED,
    SIDE_A,
    SIDE_B,
    TEXT,
    Canvas,
    Color,
    Rect,
    mix,
)
from rlhf_control.viewer.play.controls import SHIFTS, Pushes, Row
from rlhf_control.viewer.play.driver import Driver
from rlhf_control.viewer.play.gamepad import Gamepad

SPEEDS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
BEHIND = 0.1  # s of steps that a slow machine catches up with; the rest is dropped
READY, DRIVING, PAUSED, OVER = "ready", "driving", "paused", "over"
SIZE = 480  # pixels at most that a picture of MuJoCo is drawn at
LABELS = {"left": "←", "right": "→", "up": "↑", "down": "↓", "return": "Enter", "escape": "Esc", "space": "Space"}


class Drive:
    """Steps the driver's environment in time. `limit`: after so many steps it is over. `start`: a stored state (D,)."""

    def __init__(
        self, driver: Driver, *, rate: float | None = None, limit: int | None = None, start: Array | None = None
    ) -> None:
        self.driver, self.rate, self.limit, self.start = driver, rate or driver.rate, limit, start
        self.speed = SPEEDS.index(1.0)
        self.camera = 0
        self.held: set[str] = set()
        self._tapped: set[str] = set()  # pressed since the last step, perhaps already released
        self.gamepad = Gamepad()
        self._renderer = ClipRenderer(driver.env_id, driver.arguments) if driver.drawn_by_us else None
        keys = driver.controls.keys
        self.commands = {
            "r" if "r" not in keys else "backspace": "restart",
            "p" if "p" not in keys else "tab": "pause",
            "c" if "c" not in keys else "f2": "camera",
            "[": "slower",
            "]": "faster",
        }
        self.restart()

    def restart(self) -> None:
        self.driver.reset(self.start)
        self.phase, self.problem, self._owed = READY, "", 0.0
        self._tapped.clear()
        self.frames: list[Array] = []  # shown so far, where there is a limit
        self.picture = self.drawn()

    # -- what the person does

    def press(self, key: str) -> str:
        """Takes in a key that went down, and gives the command that it stands for, if any."""
        self.held.add(key)
        if key in self.driver.controls.keys:
            self._tapped.add(key)
            if self.phase in (READY, PAUSED):
                self.phase = DRIVING
            return ""
        return self.commands.get(key, "")

    def release(self, key: str) -> None:
        self.held.discard(key)

    def do(self, command: str) -> None:
        if command == "restart":
            self.restart()
        elif command == "pause" and self.phase in (DRIVING, PAUSED):
            self.phase = PAUSED if self.phase == DRIVING else DRIVING
        elif command in ("slower", "faster"):
            self.speed = min(max(self.speed + (1 if command == "faster" else -1), 0), len(SPEEDS) - 1)
        elif command == "camera" and self._renderer is not None:
            self.camera = (self.camera + 1) % len(self._renderer.cameras)
            self.picture = self.drawn()

    # -- time

    def steered(self) -> bool:
        """Tells whether the gamepad says anything that drives."""
        controls = self.driver.controls
        return bool(self.gamepad.keys() & controls.keys) or self.gamepad.action(controls) is not None

    def advance(self, seconds: float) -> None:
        """Makes the steps that are due after so many seconds."""
        if self.phase == READY and self.steered():
            self.phase = DRIVING
        if self.phase != DRIVING:
            return
        self._owed += min(seconds, BEHIND) * self.rate * SPEEDS[self.speed]
        stepped = False
        while self._owed >= 1 - 1e-9 and self.phase == DRIVING:
            self._owed -= 1
            self._step()
            stepped = True
        if stepped:
            self.picture = self.drawn()
            if self.limit is not None:
                self.frames.append(self.picture)

    def move(self) -> None:
        """Makes one step with what the person holds: keys, else the gamepad."""
        driver, held = self.driver, self.held | self._tapped
        steered = self.gamepad.action(driver.controls, driver.last)
        if steered is not None and not held & driver.controls.keys:
            driver.act(steered, driver.controls.executed(steered))
        else:
            driver.step(held | self.gamepad.keys())

    def _step(self) -> None:
        try:
            self.move()
        except UserError as error:
            self.problem = str(error)
        self._tapped.clear()
        full = self.limit is not None and len(self.driver.steps) >= self.limit
        if self.problem or self.driver.over or full:
            self.phase = OVER

    @property
    def whole(self) -> bool:
        """Tells whether all the steps up to the limit were made."""
        return self.limit is not None and len(self.driver.steps) == self.limit

    # -- the picture

    def drawn(self, further: int = 0) -> Array:
        """Returns the picture (H, W, 3) of what there is to see now, from the camera or one so many further."""
        state = self.driver.state()
        if self._renderer is None or state is None:
            return self.driver.rendered()
        nothing = np.zeros((1, 1), np.float32)
        clip = Segments(nothing, nothing, nothing, nothing[0], state[None])
        return self._renderer.draw(clip, SIZE, SIZE, (self.camera + further) % self.cameras)[0]

    @property
    def cameras(self) -> int:
        return 1 if self._renderer is None else len(self._renderer.cameras)

    def key_of(self, command: str) -> str:
        """Returns what is printed on the key of a command."""
        return label_of(next(key for key, does in self.commands.items() if does == command))

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


def label_of(key: str) -> str:
    """Returns what is printed on a key."""
    return LABELS.get(key, key.upper() if len(key) == 1 else key.capitalize())


# -- drawing


@dataclass(frozen=True)
class DriveButton:
    label: str
    action: str
    key: str  # what is printed on it
    enabled: bool = True
    color: Color = RAISED


def split(canvas: Canvas) -> tuple[Rect, Rect]:
    """Returns the places of the picture, left, and of the panel, right."""
    width, height = canvas.size
    gap = canvas.px(28)
    side = min(height - 2 * gap, width * 0.54, width - 3 * gap - 33 * canvas.measure("n", 15)[0])
    return (gap, gap, side, height - 2 * gap), (side + 2 * gap, gap, width - side - 3 * gap, height - 2 * gap)


def draw_picture(canvas: Canvas, drive: Drive, place: Rect, words: str, picture: Array | None = None) -> None:
    """Draws the environment, with a few words in it while nothing moves."""
    canvas.box(place, PANEL, radius=12)
    shown = canvas.picture(drive.picture if picture is None else picture, place, radius=12, cache=False)
    if not words:
        return
    x, y, width, _ = shown
    wide = min(canvas.measure(words, 18, bold=True)[0] + canvas.px(36), width)
    pill = (x + (width - wide) / 2, y + canvas.px(16), wide, canvas.px(40))
    canvas.box(pill, BACKGROUND, radius=20)
    middle = (x + width / 2, pill[1] + pill[3] / 2)
    canvas.text(words, middle, 18, SIDE_B, bold=True, align="center", middle=True, width=wide - canvas.px(24))


def draw_keycap(canvas: Canvas, key: str, x: float, y: float, color: Color) -> float:
    """Draws a key whose middle is at height y; returns where the next one may begin."""
    label, width, height = label_of(key), cap_width(canvas, key), cap_height(canvas)
    canvas.box((x, y - height / 2, width, height), color, radius=6, border=LINE)
    ink = TEXT if color == RAISED else BACKGROUND
    canvas.text(label, (x + width / 2, y), 15, ink, bold=True, align="center", middle=True)
    return x + width + canvas.px(6)


def draw_keys(canvas: Canvas, drive: Drive, place: Rect) -> float:
    """Draws the key table, with what is held lit up; returns its lower edge."""
    x, y, width, height = place
    controls = drive.driver.controls
    rows: Sequence[Row] = controls.rows
    step = min(max(canvas.px(36), cap_height(canvas) + 2), height / max(1, len(rows)))
    now = controls.action(drive.held, 0, drive.driver.last)
    values = controls.executed(now) if isinstance(controls, Pushes) else None
    caps = max(_caps_width(canvas, row) for row in rows)
    for i, row in enumerate(rows):
        middle, left = y + (i + 0.5) * step, x
        for key, color in zip(row.keys, (SIDE_A, SIDE_B), strict=False):
            left = draw_keycap(canvas, key, left, middle, color if key in drive.held else RAISED)
        if not row.keys:
            canvas.text("no key", (x, middle), 14, MUTED, middle=True)
        name_width = width - caps - canvas.px(8) if values is None else (width - caps) * 0.5
        canvas.text(row.does, (x + caps + canvas.px(8), middle), 16, middle=True, width=name_width)
        if isinstance(controls, Pushes) and values is not None:
            bar = (x + caps + canvas.px(16) + name_width, middle, width - caps - name_width - canvas.px(16), 0.0)
            _draw_push(canvas, bar, float(values[i]), float(controls.low[i]), float(controls.high[i]))
    return y + len(rows) * step


def cap_height(canvas: Canvas) -> int:
    return max(canvas.px(28), canvas.measure("Q", 15, bold=True)[1])


def cap_width(canvas: Canvas, key: str) -> float:
    return max(canvas.px(34), canvas.measure(label_of(key), 15, bold=True)[0] + canvas.px(16))


def _caps_width(canvas: Canvas, row: Row) -> float:
    caps = [cap_width(canvas, key) for key in row.keys]
    return sum(caps) + canvas.px(6) * len(caps) or canvas.measure("no key", 14)[0]


def _draw_push(canvas: Canvas, bar: Rect, value: float, low: float, high: float) -> None:
    """Tells how strongly an actuator pushes, between its bounds, from the middle to either side."""
    x, y, width, _ = bar
    thick, middle = canvas.px(6), x + width / 2
    canvas.box((x, y - thick / 2, width, thick), RAISED, radius=3)
    share = value / high if value > 0 else -value / low if value < 0 else 0.0
    end = middle + share * width / 2
    if value:
        canvas.box(
            (min(middle, end), y - thick, abs(end - middle), 2 * thick), SIDE_A if value > 0 else SIDE_B, radius=3
        )
    canvas.box((middle - 1, y - thick, 2, 2 * thick), MUTED)


def draw_buttons(canvas: Canvas, place: Rect, rows: Sequence[Sequence[DriveButton]]) -> float:
    """Draws rows of buttons that end at the lower edge of the place; returns their upper edge."""
    x, y, width, height = place
    gap, tall = canvas.px(10), max(canvas.px(44), canvas.measure("Q", 15)[1] + canvas.px(8))
    top = y + height - len(rows) * tall - (len(rows) - 1) * gap
    for i, buttons in enumerate(rows):
        wide = (width - (len(buttons) - 1) * gap) / len(buttons)
        for j, b in enumerate(buttons):
            rect = (x + j * (wide + gap), top + i * (tall + gap), wide, tall)
            canvas.button(rect, b.label, b.action, hint=b.key, enabled=b.enabled, colors=(b.color, TEXT), size=15)
    return top


def facts_height(canvas: Canvas) -> int:
    return max(canvas.px(72), canvas.measure("Q", 13)[1] + canvas.measure("Q", 20, bold=True)[1] + canvas.px(10))


def draw_facts(canvas: Canvas, place: Rect, facts: Sequence[tuple[str, str]]) -> None:
    """Draws numbers next to each other, each under its name; what room is left goes between them."""
    x, y, width, height = place
    canvas.box(place, PANEL, radius=10)
    widths = [max(canvas.measure(name, 13)[0], canvas.measure(value, 20, bold=True)[0]) for name, value in facts]
    between = max(canvas.px(4), (width - 2 * canvas.px(16) - sum(widths)) / max(1, len(facts) - 1))
    left = x + canvas.px(16)
    for (name, value), wide in zip(facts, widths, strict=True):
        canvas.text(name, (left, y + height * 0.29), 13, MUTED, middle=True)
        canvas.text(value, (left, y + height * 0.69), 20, bold=True, middle=True)
        left += wide + between


def common_buttons(drive: Drive) -> list[DriveButton]:
    """Returns the buttons of every drive."""
    paused = drive.phase == PAUSED
    some: list[DriveButton] = [
        DriveButton("Go on" if paused else "Pause", "pause", drive.key_of("pause"), drive.phase in (DRIVING, PAUSED)),
        DriveButton("Slower", "slower", "[", drive.speed > 0),
        DriveButton("Faster", "faster", "]", drive.speed < len(SPEEDS) - 1),
    ]
    return some + [DriveButton("Camera", "camera", drive.key_of("camera"))] * (drive.cameras > 1)


def facts_of(drive: Drive) -> list[tuple[str, str]]:
    """Returns the numbers worth seeing; in a correction, which a person judges, the environment's reward is none of
    them."""
    steps = len(drive.driver.steps)
    facts = [
        ("time", f"{steps / drive.rate:.1f} s"),
        ("steps", f"{steps:,}" if drive.limit is None else f"{steps} of {drive.limit}"),
        ("env reward", f"{drive.driver.reward:.1f}"),
        ("speed", f"{SPEEDS[drive.speed]:g}x"),
    ]
    return facts if drive.limit is None else [fact for fact in facts if fact[0] != "env reward"]


HALF = "Shift with another key: half as strong"
ACCENT: dict[str, Any] = {READY: SIDE_B, DRIVING: GOOD, PAUSED: SIDE_B, OVER: SIDE_B}


def draw_panel(canvas: Canvas, drive: Drive, place: Rect, title: str, words: str, bottom: float) -> None:
    """Draws title, state and key table, down to `bottom` at most."""
    x, y, width, _ = place
    canvas.text(title, (x, y), 26, bold=True, width=width)
    line = max(canvas.px(42), canvas.measure(title, 26, bold=True)[1] + canvas.px(4))
    box = canvas.paragraph(words, (x, y + line), width, 16, ACCENT[drive.phase])
    top = box[1] + box[3] + canvas.px(18)
    shift = isinstance(drive.driver.controls, Pushes)
    end = draw_keys(canvas, drive, (x, top, width, bottom - top - max(canvas.px(30), 15) * shift))
    if shift:
        ink = SIDE_A if SHIFTS & drive.held else mix(MUTED, TEXT, 0.2)
        canvas.text(HALF, (x, end + max(canvas.px(14), 8)), 14, ink, middle=True, width=width)
