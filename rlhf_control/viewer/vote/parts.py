"""What the pages with questions share: what is on them (`Scene`), where things stand, and the parts that every one has.

Lengths are in units until `Canvas.px` makes pixels of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_control.data import Array
from rlhf_control.viewer.kit.canvas import (
    BACKGROUND,
    BAD,
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
from rlhf_control.viewer.vote.keys import COMPARISON, GROUPS, RANKING
from rlhf_control.viewer.vote.order import Order
from rlhf_control.wording import ENDED

MOODS: dict[str, Color] = {"good": GOOD, "busy": SIDE_B, "bad": BAD, "quiet": MUTED}
SIDES = (SIDE_A, SIDE_B)
MARGIN, BAR, TITLE = 24, 52, 60  # page edge, height of the bar, of the question
FOOT, ANSWERS, TRACK, STRIP = 34, 50, 16, 96  # heights: controls, answers, time line, places of a ranking


@dataclass(frozen=True)
class Bar:
    """Holds what is always visible."""

    done: int = 0
    goal: int = 0
    pace: str = ""  # "19 a minute, about 4 min left"
    line: str = ""  # what the run is doing
    mood: str = "quiet"


@dataclass(frozen=True)
class Drag:
    """Holds a clip on its way to a place in the ranking."""

    clip: int
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """Holds all that is on the page but the pictures; two that are equal look the same."""

    bar: Bar = Bar()
    question: str = ""
    mode: str = COMPARISON
    frames: tuple[int | None, ...] = (None, None)  # which frame of each clip; None while it is not drawn
    over: tuple[bool, ...] = ()  # of each clip, whether an early end has come, where that is what is asked about
    drawn_as: str = ""  # size and camera of the frames
    share: float = 0.0  # of the clips that has run
    enabled: bool = False  # whether one may answer
    paused: bool = False
    speed: float = 1.0
    camera: str = ""  # empty if there is only one
    undo: bool = False  # whether there is a vote to take back
    flash: tuple[str, int] = ("", 0)  # the last answer, as an action, and how bright it still is: 10 to 0
    last: str = ""  # the last answer in words
    expected: str = ""  # what the reward model predicted there
    notice: str = ""  # something to know, such as that a vote could not be saved
    problem: str = ""  # why a clip cannot be drawn
    levels: int = 5  # of a rating
    order: Order = ()
    confirmable: bool = False  # whether the order is complete
    tie: bool = False  # the next clip ties with the last
    drag: Drag | None = None
    correctable: bool = False
    end: str = ""  # what of an episode is shown, if it is not all
    spin: int = 0  # of what shows that something is going on
    hover: str = ""  # the action under the mouse


Pictures = Sequence[Array | None]  # (H, W, 3) of each clip now


# -- places


def title_height(window: Canvas) -> int:
    """Returns the height of the question: two lines in small type find room."""
    return max(window.px(TITLE), 2 * window.measure("Q", 15, bold=True)[1] + window.px(4))


def foot_height(window: Canvas) -> int:
    """Returns the height of a row of buttons without a frame around it."""
    return max(window.px(FOOT), window.measure("Q", 14)[1] + window.px(8))


def answers_height(window: Canvas) -> int:
    return max(window.px(ANSWERS), window.measure("Q", 17)[1] + window.px(14))


def answers_top(window: Canvas) -> float:
    return window.size[1] - window.px(16) - foot_height(window) - window.px(14) - answers_height(window)


def clip_places(window: Canvas, how: str, clips: int) -> list[Rect]:
    """Returns a square for each clip."""
    px, width = window.px, window.size[0]
    top, bottom = px(BAR) + title_height(window), answers_top(window) - px(8 + TRACK + 10)
    if how == RANKING:
        bottom -= px(STRIP + 14)
    if how == GROUPS:
        rooms = group_rooms(window)
        halves = [squares(grown(room, -px(12)), clips // 2, px(10)) for room in rooms]
        return [place for half in halves for place in half]
    return squares((px(MARGIN), top, width - 2 * px(MARGIN), bottom - top), clips, px(28 if clips == 2 else 16))


def group_rooms(window: Canvas) -> tuple[Rect, Rect]:
    """Returns where the left and the right group of clips stand."""
    px, width = window.px, window.size[0]
    top, bottom, gap = px(BAR) + title_height(window), answers_top(window) - px(8 + TRACK + 10), px(20)
    each = (width - 2 * px(MARGIN) - gap) / 2
    return tuple((px(MARGIN) + i * (each + gap), top, each, bottom - top) for i in range(2))  # type: ignore[return-value]


def squares(room: Rect, n: int, gap: float) -> list[Rect]:
    """Returns the n largest equal squares in as many rows as make them largest, in the middle of `room`."""
    x, y, width, height = room

    def side(columns: int) -> float:
        rows = -(-n // columns)
        return min((width - gap * (columns - 1)) / columns, (height - gap * (rows - 1)) / rows)

    columns = max(range(1, n + 1), key=side)
    rows, a = -(-n // columns), max(8.0, side(columns))
    top = y + (height - rows * a - gap * (rows - 1)) / 2
    places = []
    for i in range(n):
        in_row = min(columns, n - i // columns * columns)  # the last row may be shorter
        left = x + (width - in_row * a - gap * (in_row - 1)) / 2
        places.append((left + i % columns * (a + gap), top + i // columns * (a + gap), a, a))
    return places


def track_place(window: Canvas, how: str, clips: int) -> Rect:
    """Returns where the time line is; a click on it seeks."""
    places = clip_places(window, how, clips)
    left, right = min(x for x, _, _, _ in places), max(x + w for x, _, w, _ in places)
    bottom = max(y + h for _, y, _, h in (group_rooms(window) if how == GROUPS else places))
    return left, bottom + window.px(8), right - left, window.px(TRACK)


def answers_place(window: Canvas, how: str, clips: int) -> Rect:
    """Returns the row of answers below the clips, never so narrow that their words do not fit."""
    px, width = window.px, window.size[0]
    places = clip_places(window, how, clips)
    left, right = min(x for x, _, _, _ in places), max(x + w for x, _, w, _ in places)
    least = min(max(px(760), 62 * window.measure("n", 17)[0]), width - 2 * px(MARGIN))
    if right - left < least:
        left, right = (width - least) / 2, (width + least) / 2
    return left, answers_top(window), right - left, answers_height(window)


def grown(rect: Rect, by: float) -> Rect:
    x, y, width, height = rect
    return x - by, y - by, width + 2 * by, height + 2 * by


# -- the parts of every page


def draw_bar(window: Canvas, bar: Bar) -> None:
    px, width = window.px, window.size[0]
    middle, left = px(BAR / 2 + 2), float(px(MARGIN))
    if bar.goal:
        window.box((0, 0, width, px(4)), PANEL)
        window.box((0, 0, width * min(1.0, bar.done / bar.goal), px(4)), GOOD)
        _, _, taken, _ = window.text(
            f"{bar.done} of {bar.goal}", (left, middle), 17, bold=True, middle=True, width=px(300)
        )
        left += taken + px(16)
    line = window.text(bar.line, (width - px(MARGIN), middle), 15, TEXT, align="right", middle=True, width=px(560))
    if bar.line:
        window.disc((line[0] - px(14), middle), 5, MOODS[bar.mood])
    if bar.pace:
        window.text(bar.pace, (left, middle), 15, MUTED, middle=True, width=line[0] - px(40) - left)


def draw_title(window: Canvas, question: str, notice: str) -> None:
    """Draws the question, in the largest type that fits into two lines, and below it a word to the person; where both
    find no room, the word alone for as long as it stands. So it covers neither clips nor answers."""
    px, width, tall = window.px, window.size[0], title_height(window)
    room, top = width - 2 * px(MARGIN + 16), px(BAR)
    if not notice:
        for size in (26, 22, 18, 15):
            if window.measure(question, size, bold=True)[0] <= room * (1 if size >= 22 else 1.9):
                break
        at = (width / 2, top + tall / 2 - px(4))
        window.paragraph(question, at, room, size, bold=True, align="center", middle=True)
        return
    words, line = window.measure_paragraph(notice, room, 14), window.measure("Q", 16, bold=True)[1]
    both = line + words[1] + px(12) <= tall
    if both:
        window.text(question, (width / 2, top - px(4)), 16, bold=True, align="center", width=room)
    high = words[1] + px(8)
    y = top + tall - high - px(4) if both else top + max(0, tall - high) / 2
    window.box(((width - words[0]) / 2 - px(16), y, words[0] + px(32), high), RAISED, radius=8, border=SIDE_B, line=2)
    window.paragraph(notice, (width / 2, y + high / 2), room, 14, TEXT, align="center", middle=True)


def draw_track(window: Canvas, scene: Scene) -> None:
    """Draws the thin time line."""
    x, y, width, height = track_place(window, scene.mode, len(scene.frames))
    thick = window.px(6 if scene.hover == "seek" else 3)
    row = y + (height - thick) / 2
    window.box((x, row, width, thick), LINE, radius=3)
    if scene.enabled:
        window.box((x, row, max(thick, width * scene.share), thick), MUTED, radius=3)
        window.region((x, y, width, height), "seek")


def draw_controls(window: Canvas, scene: Scene) -> None:
    """Draws undo and the last answer; the clock of the clips; help and leave. Each button is at least as wide as its
    word."""
    px, (width, height) = window.px, window.size
    tall, gap, left = foot_height(window), px(6), px(MARGIN)
    y = height - px(16) - tall
    middle = y + tall / 2

    def wide(label: str, units: float) -> float:
        return max(px(units), window.measure(label, 14)[0] + px(16))

    words = left + wide("Undo", 112) + px(12)
    window.button((left, y, wide("Undo", 112), tall), "Undo", "undo", hint="⌫", enabled=scene.undo, size=14)
    right: float = width - px(MARGIN)
    for label, action, hint, units in (("Leave", "leave", "Esc", 92), ("Help", "help", "H", 80)):
        right -= wide(label, units)
        window.button((right, y, wide(label, units), tall), label, action, hint=hint, size=14)
        right -= gap
    clock = [
        ("↺", "restart", "R", 56), ("‹", "back", ",", 52), ("Play" if scene.paused else "Pause", "pause", "Space", 118),
        ("›", "forward", ".", 52), ("−", "slower", "[", 52), (f"{scene.speed:g}×", "", "", 52),
        ("+", "faster", "]", 52),
    ]  # fmt: skip
    if scene.camera:
        clock.append((f"View: {scene.camera}", "camera", "C", 150))
    total = sum(wide(label, units) for label, _, _, units in clock) + gap * (len(clock) - 1)
    x = min(max(words + px(196 + 8), (width - total) / 2), right - px(6) - total)
    draw_last(window, scene, (words, y, x - px(8) - words, tall))
    for label, action, hint, units in clock:
        place = (x, y, wide(label, units), tall)
        if action:
            window.button(place, label, action, hint=hint, enabled=scene.enabled, size=14)
        else:
            window.text(label, (x + place[2] / 2, middle), 14, TEXT, align="center", middle=True)
        x += place[2] + gap


def draw_last(window: Canvas, scene: Scene, place: Rect) -> None:
    """Draws the last answer, and what the model expected there, if there is room for words."""
    x, y, width, height = place
    middle, line = y + height / 2, window.measure("Q", 13)[1]
    if width < window.measure("Last: A", 13)[0]:
        return
    lines = [words for words in (scene.last, scene.expected) if words]
    if len(lines) * line > height + window.px(8):
        lines = lines[-1:]
    for i, words in enumerate(lines):
        at = middle + (i - (len(lines) - 1) / 2) * line
        window.text(words, (x, at), 13, MUTED, middle=True, width=width)


def draw_clip(window: Canvas, scene: Scene, i: int, place: Rect, picture: Array | None, color: Color) -> None:
    """Draws one clip in its place, or what stands there until it is drawn."""
    px = window.px
    if picture is None:
        window.box(place, PANEL, radius=12)
        x, y, width, height = place
        middle = (x + width / 2, y + height / 2)
        if scene.problem:
            window.text("cannot be shown", middle, 14, MUTED, align="center", middle=True)
            return
        for k in range(3):
            bright = (scene.spin // 2 - k) % 6 < 2
            window.disc((middle[0] + px(18) * (k - 1), middle[1] - px(14)), 4, MUTED if bright else LINE)
        window.text("drawing this clip", (middle[0], middle[1] + px(8)), 14, MUTED, align="center")
        return
    side = i * 2 // len(scene.frames)  # of two groups
    action = {COMPARISON: f"prefer {i}", GROUPS: f"prefer {side}", RANKING: f"place {i}"}.get(scene.mode, "")
    hovered = action and scene.hover == action and scene.enabled
    if hovered:
        window.box(grown(place, px(4)), color, radius=15)
    else:
        window.box(place, PANEL, radius=12)
    window.picture(picture, place, radius=12, around=color if hovered else BACKGROUND)
    if any(scene.over[i : i + 1]):
        window.shade(0.65, place, BACKGROUND)
        window.text(ENDED, (place[0] + place[2] / 2, place[1] + place[3] / 2), 22, TEXT, align="center", middle=True)
    if action and scene.enabled:
        window.region(place, action)


def badge(window: Canvas, place: Rect, letter: str, color: Color) -> None:
    """Draws a letter in the clip's upper corner."""
    x, y, px = place[0] + window.px(28), place[1] + window.px(28), window.px
    window.disc((x, y), 17, mix(BACKGROUND, (0, 0, 0), 0.3))
    window.disc((x, y), 15, color)
    window.text(letter, (x, y + px(0.5)), 17, BACKGROUND, bold=True, align="center", middle=True)


def lit(scene: Scene, action: str, color: Color, base: Color) -> tuple[Color, Color]:
    """Returns a button's colour and its type's: bright for a moment after the answer was this one."""
    last, level = scene.flash
    return (mix(base, color, level / 10), mix(TEXT, BACKGROUND, level / 10)) if last == action else (base, TEXT)
