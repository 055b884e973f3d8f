"""The page on which one looks at a question: its clips, a curve of rewards under each, and its votes beside them.

T frames of a clip, L its steps.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_control.data import Array
from rlhf_control.feedback.schema import EARLY_END, Asked
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
from rlhf_control.viewer.watch.curves import (
    ENV_REWARD,
    at_cursor,
    draw_cursor,
    draw_curve,
    draw_values,
    draw_zero,
    scaled,
    span,
)
from rlhf_control.viewer.watch.history import LETTERS, Told
from rlhf_control.wording import ENDED

# Okabe and Ito's: told apart with every kind of colour blindness
COLORS: tuple[Color, ...] = (SIDE_A, SIDE_B, GOOD, (204, 121, 167), (240, 228, 66), (213, 94, 0))
MARGIN, HEAD, FOOT, PANEL_WIDTH, GAP = 28, 84, 62, 340, 20  # units
CURVE, LOW_CURVE = 104, 74  # units: heights, the second where clips stand in several rows


@dataclass(frozen=True)
class WatchPage:
    """Holds all that is on the page but pictures and curves."""

    run: str
    asked: Asked | None
    number: int
    of: int
    typed: str  # the number that the person is typing
    votes: tuple[Told, ...]
    frames: tuple[int | None, ...]  # which frame of each clip; None while it is not drawn
    over: tuple[bool, ...]  # of each clip, whether an early end has come, where that is what is asked about
    share: float  # of the clips that has run
    paused: bool
    speed: float
    camera: str  # empty if there is only one
    env_reward: bool  # whether the environment's reward is shown
    prediction: str  # why there is no prediction; empty if there is one
    model: str  # which reward model it is
    problem: str  # why a clip cannot be drawn
    notice: str
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    picture: Rect
    curve: Rect


def head_height(canvas: Canvas) -> int:
    return max(canvas.px(HEAD), 2 * canvas.measure("Q", 15)[1] + canvas.px(12))


def cells(canvas: Canvas, clips: int) -> list[Cell]:
    """Returns a square for each clip, as large as fits, and the place of its curve below."""
    px, (width, height) = canvas.px, canvas.size
    x, y = px(MARGIN), head_height(canvas)
    room_width, room_height = width - px(PANEL_WIDTH) - 3 * px(MARGIN), height - y - px(FOOT) - px(16)
    gap = px(GAP)

    def side(columns: int) -> float:
        """Of a square, in so many columns."""
        rows = -(-clips // columns)
        by_width = (room_width - gap * (columns - 1)) / columns
        return min(by_width, (room_height - gap * (rows - 1)) / rows - px(10) - curve(columns))

    def curve(columns: int) -> int:
        return px(CURVE if columns >= clips else LOW_CURVE)

    if not clips:
        return []
    columns = max(range(1, clips + 1), key=side)
    rows, a, tall = -(-clips // columns), max(16.0, side(columns)), curve(columns)
    left = x + (room_width - columns * a - (columns - 1) * gap) / 2
    top = y + (room_height - rows * (a + px(10) + tall) - (rows - 1) * gap) / 2
    places = []
    for i in range(clips):
        at = (left + i % columns * (a + gap), top + i // columns * (a + px(10) + tall + gap))
        places.append(Cell((*at, a, a), (at[0], at[1] + a + px(10), a, tall)))
    return places


def draw_page(
    canvas: Canvas, page: WatchPage, pictures: Sequence[Array | None], predicted: Sequence[Array | None],
    given: Sequence[Array | None],
) -> None:  # fmt: skip
    draw_head(canvas, page)
    if page.asked is None:
        draw_empty(canvas, page)
        draw_foot(canvas, page)
        return
    scale, given_scale = span(predicted), span(given)
    preferred = {place for vote in page.votes if not vote.fate for place in vote.best}
    for i, cell in enumerate(cells(canvas, len(pictures))):
        color = COLORS[i % len(COLORS)]
        draw_clip(canvas, page, i, cell.picture, pictures[i], color, i in preferred)
        draw_strip(canvas, page, i, cell.curve)
        curve, env_reward = predicted[i], given[i]
        x, y, width, height = cell.curve
        strip, share = (x, y, width * lasts(page, i), height), min(1.0, page.share / lasts(page, i))
        if env_reward is not None:
            draw_curve(canvas, strip, scaled(env_reward, *given_scale), ENV_REWARD, 1.7)
        if curve is not None:
            draw_zero(canvas, cell.curve, *scale)
            draw_curve(canvas, strip, scaled(curve, *scale), color, 2.5)
        draw_values(canvas, cell.curve, curve, env_reward, share)
        now = None if curve is None else at_cursor(curve, share)
        draw_cursor(canvas, strip, share, now, scale)
    x = canvas.size[0] - canvas.px(PANEL_WIDTH + MARGIN)
    top = head_height(canvas)
    place = (x, top, canvas.px(PANEL_WIDTH), canvas.size[1] - top - canvas.px(FOOT + 16))
    draw_side(canvas, page, place, predicted)
    draw_foot(canvas, page)


# -- around the clips


def draw_head(canvas: Canvas, page: WatchPage) -> None:
    px, width = canvas.px, canvas.size[0]
    title = f"Question {page.number} of {page.of}" if page.asked else page.run
    box = canvas.text(title, (px(MARGIN), px(28)), 24, bold=True, middle=True)
    if page.typed:
        place = (box[0] + box[2] + px(20), px(10), px(220), px(36))
        canvas.box(place, RAISED, radius=8, border=SIDE_A)
        canvas.text(f"go to {page.typed}|", (place[0] + px(14), px(28)), 16, middle=True)
        canvas.text("Enter", (place[0] + place[2] - px(14), px(28)), 13, MUTED, middle=True, align="right")
    right = canvas.text(
        page.run, (width - px(MARGIN), px(28)), 15, MUTED, align="right", middle=True, width=width * 0.3
    )
    if page.asked:
        words, room = facts(page.asked), width - 2 * px(MARGIN)
        canvas.text(words, (px(MARGIN), head_height(canvas) - px(24)), 15, MUTED, middle=True, width=room)
    if page.notice:
        left = box[0] + box[2] + px(20)
        canvas.text(page.notice, (left, px(28)), 14, BAD, middle=True, width=max(1.0, right[0] - left - px(20)))


def facts(asked: Asked) -> str:
    """Returns a question's circumstances in a line."""
    parts = [
        asked.kind,
        f"round {asked.round + 1}",
        asked.strategy,
        "asked again" if asked.repeat else "",
        "" if asked.policy is None else f"policy {short(asked.policy)}",
        "" if asked.reward is None else f"reward model {short(asked.reward)}",
        time.strftime("asked %d %b %H:%M", time.localtime(asked.time)),
        asked.key[:8],
    ]
    return "  ·  ".join(filter(None, parts))


def short(version: int | str | None) -> str:
    return version[:8] if isinstance(version, str) else f"{version}"


def draw_empty(canvas: Canvas, page: WatchPage) -> None:
    px, (width, height) = canvas.px, canvas.size
    canvas.text("Nothing was asked yet", (width / 2, height / 2 - px(24)), 26, bold=True, align="center", middle=True)
    words = "Questions appear here as the run asks them. If it is not running: rlhf-control resume RUN"
    canvas.text(words, (width / 2, height / 2 + px(16)), 17, MUTED, align="center", middle=True)


def draw_foot(canvas: Canvas, page: WatchPage) -> None:
    """Draws buttons, each at least as wide as its word; the shorter words where the others find no room."""
    px, (width, height), some = canvas.px, canvas.size, page.asked is not None
    buttons = [
        ("Previous", "Prev", "previous", "←", 124, page.number > 1, False),
        ("Next", "Next", "next", "→", 96, page.number < page.of, False),
        ("Play" if page.paused else "Pause", "", "pause", "Space", 120, some, False),
        ("−", "", "slower", "[", 50, some, False),
        (f"{page.speed:g}×", "", "", "", 50, some, False),
        ("+", "", "faster", "]", 50, some, False),
    ]
    if page.camera:
        buttons.append((page.camera, "View", "camera", "C", 110, some, False))
    buttons += [
        ("Env reward", "Env", "env reward", "T", 134, some, page.env_reward),
        ("Predict anew", "Predict", "predict", "P", 150, some, False),
        ("Help", "", "help", "H", 80, True, False),
        ("Leave", "", "leave", "Esc", 92, True, False),
    ]

    def widths(words: Sequence[str]) -> list[float]:
        return [max(px(b[4]), canvas.measure(word, 14)[0] + px(16)) for b, word in zip(buttons, words, strict=True)]

    gap, room = px(8), width - 2 * px(MARGIN)
    words = [b[0] for b in buttons]
    if sum(widths(words)) + gap * (len(words) - 1) > room:
        words = [b[1] or b[0] for b in buttons]
    tall = max(px(38), canvas.measure("Q", 14)[1] + px(8))
    x, y = float(px(MARGIN)), height - px(16) - tall
    for word, wide, (_, _, action, hint, _, enabled, on) in zip(words, widths(words), buttons, strict=True):
        if action == "help":  # the last two stand at the right
            x = max(x, width - px(MARGIN) - sum(widths(words)[-2:]) - gap)
        if action:
            canvas.button((x, y, wide, tall), word, action, hint=hint, enabled=enabled, on=on, size=14)
        else:
            canvas.text(word, (x + wide / 2, y + tall / 2), 15, align="center", middle=True)
        x += wide + gap


# -- a clip and its curve


def lasts(page: WatchPage, i: int) -> float:
    """Returns what share of the time of the longest clip a clip has: less than 1 where an end that is asked about cuts
    it short."""
    of_ends = page.asked is not None and page.asked.strategy == EARLY_END
    return page.steps[i] / max(page.steps) if of_ends and page.steps[i] else 1.0


def draw_clip(
    canvas: Canvas, page: WatchPage, i: int, place: Rect, picture: Array | None, color: Color, best: bool
) -> None:
    x, y, width, height = place
    if best:
        canvas.box((x - canvas.px(4), y - canvas.px(4), width + canvas.px(8), height + canvas.px(8)), color, radius=12)
    canvas.box(place, PANEL, radius=12)
    if picture is not None:
        canvas.picture(picture, place, radius=0 if best else 12)
        if page.over[i]:
            canvas.shade(0.65, place, BACKGROUND)
            canvas.text(ENDED, (x + width / 2, y + height / 2), 22, TEXT, align="center", middle=True)
    else:
        words = page.problem or "drawing this clip"
        middle = (x + width / 2, y + height / 2)
        canvas.paragraph(words, middle, width * 0.8, 14, MUTED, align="center", middle=True)
    at = (x + canvas.px(24), y + canvas.px(24))
    canvas.disc(at, 16, BACKGROUND)
    canvas.disc(at, 14, color)
    canvas.text(LETTERS[i], at, 16, BACKGROUND, bold=True, align="center", middle=True)
    canvas.region(place, "pause")


def draw_strip(canvas: Canvas, page: WatchPage, i: int, place: Rect) -> None:
    """Draws the ground of a curve, on which a click seeks."""
    x, y, width, height = place
    canvas.box(place, PANEL, radius=8)
    canvas.region(place, f"seek {i}")
    if page.prediction and not page.env_reward:  # whose curve would lie over the words
        at, room = (x + width / 2, y + height / 2), width * 0.9
        if canvas.measure_paragraph(page.prediction, room, 13)[1] <= height:
            canvas.paragraph(page.prediction, at, room, 13, MUTED, align="center", middle=True)
        else:
            canvas.text(page.prediction, at, 13, MUTED, align="center", middle=True, width=room)


# -- beside the clips


def draw_side(canvas: Canvas, page: WatchPage, place: Rect, predicted: Sequence[Array | None]) -> None:
    """Draws the votes, and what the model says now."""
    x, y, width, height = place
    px = canvas.px
    canvas.box(place, PANEL, radius=12)
    left, room, bottom = x + px(20), width - px(40), y + height
    means = [None if curve is None else float(curve.mean()) for curve in predicted]
    model_height = px(84) if page.model else 0
    canvas.text("Votes", (left, y + px(28)), 18, bold=True, middle=True)
    line: float = y + max(px(56), canvas.measure("Q", 18)[1] + px(28))
    if not page.votes:
        canvas.paragraph("nobody has answered yet", (left, line), room, 15, MUTED)
    tall = max(px(50), canvas.measure("Q", 16)[1] + canvas.measure("Q", 13)[1])
    for shown, vote in enumerate(page.votes):
        if line + tall + px(8) > bottom - model_height - px(24) * (shown < len(page.votes) - 1):
            more = f"and {len(page.votes) - shown} more"
            canvas.text(more, (left, line + px(8)), 14, MUTED, middle=True)
            break
        draw_vote(canvas, vote, (left, line, room, tall))
        line += tall + px(8)
    if model_height:
        canvas.box((left, bottom - model_height, room, 1), LINE)
        head = canvas.text("The reward model", (left, bottom - px(60)), 15, bold=True, middle=True)
        beside = room - head[2] - px(10)
        if beside > canvas.measure("of 10", 13)[0]:
            at = (left + room, bottom - px(60))
            canvas.text(page.model, at, 13, MUTED, align="right", middle=True, width=beside)
        of_ends = page.asked is not None and page.asked.strategy == EARLY_END  # one clip is shorter
        said = "says of an end what it costs, and of which clip nothing" if of_ends else opinion(means)
        canvas.text(said, (left, bottom - px(28)), 15, TEXT, middle=True, width=room)


def opinion(means: Sequence[float | None]) -> str:
    """Tells which clip the model gives the highest mean reward."""
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means) or not known:
        return "has not said anything yet"
    if len(known) == 1:
        return f"a mean reward of {known[0]:+.2f}"
    order = sorted(range(len(known)), key=lambda i: -known[i])
    first, second = order[:2]
    return f"prefers {LETTERS[first]}, by {known[first] - known[second]:.2f} a step"


def draw_vote(canvas: Canvas, vote: Told, place: Rect) -> None:
    x, y, width, height = place
    gone = bool(vote.fate)
    ink = mix(PANEL, MUTED, 0.8) if gone else TEXT
    color = COLORS[vote.best[0] % len(COLORS)] if vote.best and not gone else LINE
    canvas.box((x, y, canvas.px(4), height), color, radius=2)
    left = x + canvas.px(14)
    room, line = width - canvas.px(14), y + height * 0.28
    head = canvas.text(vote.answer, (left, line), 16, ink, bold=not gone, middle=True, width=room * 0.7)
    if gone:
        canvas.box((head[0], line, head[2], max(1, canvas.px(1.5))), ink)
    name_room = max(1.0, room - head[2] - canvas.px(12))
    canvas.text(vote.annotator, (x + width, line), 14, MUTED, align="right", middle=True, width=name_room)
    parts = [
        vote.fate,
        "" if vote.seconds is None else f"{vote.seconds:.1f} s",
        vote.shown and f"shown {vote.shown}",
        time.strftime("%H:%M", time.localtime(vote.time)),
    ]
    canvas.text("  ·  ".join(filter(None, parts)), (left, y + height * 0.78), 13, MUTED, middle=True, width=room)
