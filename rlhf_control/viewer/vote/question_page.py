"""The page with a question on it: two clips to compare, several to rank, or one to rate. Each function draws a `Scene`
on a window and leaves the places that one can click on with it; nothing here remembers anything.
"""

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
    Rect,
    inside,
    mix,
)
from rlhf_control.viewer.vote.keys import COMPARISON, GROUPS, RANKING, RATING, SUCCESS
from rlhf_control.viewer.vote.order import Order, placed
from rlhf_control.viewer.vote.parts import (
    MARGIN,
    SIDES,
    STRIP,
    Drag,
    Pictures,
    Scene,
    answers_place,
    answers_top,
    badge,
    clip_places,
    draw_bar,
    draw_clip,
    draw_controls,
    draw_title,
    draw_track,
    group_rooms,
    grown,
    lit,
)


def draw_question(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    draw_bar(window, scene.bar)
    draw_title(window, scene.question, scene.notice)
    pages = {COMPARISON: draw_comparison, GROUPS: draw_groups, RANKING: draw_ranking, RATING: draw_rating}
    pages[SUCCESS] = draw_success
    pages[scene.mode](window, scene, pictures)
    draw_track(window, scene)
    draw_controls(window, scene)


# -- to compare and to rate


def draw_comparison(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    places = clip_places(window, COMPARISON, 2)
    for i, (place, picture, color) in enumerate(zip(places, pictures, SIDES, strict=True)):
        last, level = scene.flash
        if last == f"prefer {i}" and level:  # beside the new clip, not on it: it was another one's
            edge, far = window.px(6), window.px(16)
            x = place[0] - far if i == 0 else place[0] + place[2] + far - edge
            window.box((x, place[1], edge, place[3]), mix(BACKGROUND, color, level / 10), radius=3)
        draw_clip(window, scene, i, place, picture, color)
        if picture is not None:
            badge(window, place, "AB"[i], color)
    draw_better(window, scene, answers_place(window, COMPARISON, 2))


def draw_groups(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    places, half = clip_places(window, GROUPS, len(pictures)), len(pictures) // 2
    for i, (room, color) in enumerate(zip(group_rooms(window), SIDES, strict=True)):
        action, (last, level) = f"prefer {i}", scene.flash
        lights = 10 if scene.hover == action and scene.enabled else level if last == action else 0
        window.box(room, PANEL, radius=14, border=mix(mix(BACKGROUND, color, 0.45), color, lights / 10), line=3)
        if scene.enabled:
            window.region(room, action)
        for k in range(i * half, (i + 1) * half):
            draw_clip(window, scene, k, places[k], pictures[k], PANEL)
        if pictures[i * half] is not None:
            badge(window, room, "AB"[i], color)
    draw_better(window, scene, answers_place(window, GROUPS, len(pictures)))


def draw_better(window: Canvas, scene: Scene, row: Rect) -> None:
    """Draws the answers to a question about two."""
    left, y, width, height = row
    gap = window.px(12)
    wide, narrow = (width - 3 * gap) * 0.29, (width - 3 * gap) * 0.21
    answers = [
        ("A is better", "prefer 0", "←", wide, SIDE_A), ("Equal", "tie", "↑", narrow, TEXT),
        ("", "cannot tell", "", narrow, TEXT), ("B is better", "prefer 1", "→", wide, SIDE_B),
    ]  # fmt: skip
    for label, action, hint, room, color in answers:
        place = (left, y, room, height)
        if label:
            back, ink = lit(scene, action, color, RAISED if color is TEXT else mix(BACKGROUND, color, 0.30))
            window.button(place, label, action, hint=hint, enabled=scene.enabled, colors=(back, ink), size=17)
        else:
            draw_cannot_tell(window, scene, place)
        left += room + gap


def draw_cannot_tell(window: Canvas, scene: Scene, place: Rect) -> None:
    """Draws the answer that is open also where a clip cannot be shown, so that nobody is stuck."""
    back, ink = lit(scene, "cannot tell", TEXT, RAISED)
    enabled = scene.enabled or bool(scene.problem)
    window.button(place, "Cannot tell", "cannot tell", hint="↓", enabled=enabled, colors=(back, ink), size=17)


def draw_rating(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    (place,) = clip_places(window, RATING, 1)
    draw_clip(window, scene, 0, place, pictures[0], SIDE_A)
    x, y, width, height = answers_place(window, RATING, 1)
    gap, last = window.px(10), max(window.px(150), window.measure("Cannot tell", 17)[0] + window.px(20))
    room = (width - last - gap * scene.levels) / scene.levels
    for level in range(1, scene.levels + 1):
        action = f"rate {level}"
        word = {1: "worst", scene.levels: "best"}.get(level, "")
        color = mix(SIDE_B, SIDE_A, (level - 1) / (scene.levels - 1))
        back, ink = lit(scene, action, color, mix(BACKGROUND, color, 0.30))
        window.button((x, y, room, height), str(level), action, hint=word, enabled=scene.enabled, colors=(back, ink))
        x += room + gap
    draw_cannot_tell(window, scene, (x, y, last, height))


def draw_success(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    (place,) = clip_places(window, SUCCESS, 1)
    draw_clip(window, scene, 0, place, pictures[0], SIDE_A)
    if scene.end and pictures[0] is not None:
        wide, tall = window.measure(scene.end, 14)[0] + window.px(20), window.px(28)
        pill = (place[0] + (place[2] - wide) / 2, place[1] + window.px(10), wide, tall)
        window.box(pill, BACKGROUND, radius=14)
        middle = (pill[0] + wide / 2, pill[1] + tall / 2)
        window.text(scene.end, middle, 14, MUTED, align="center", middle=True)
    x, y, width, height = answers_place(window, SUCCESS, 1)
    gap = window.px(12)
    room = (width - 2 * gap) / 3
    for i, (label, hint, color) in {0: ("Failure", "←", BAD), 2: ("Success", "→", GOOD)}.items():
        action = f"mark {i // 2}"
        back, ink = lit(scene, action, color, mix(BACKGROUND, color, 0.35))
        at = (x + i * (room + gap), y, room, height)
        window.button(at, label, action, hint=hint, enabled=scene.enabled, colors=(back, ink), size=17)
    draw_cannot_tell(window, scene, (x + room + gap, y, room, height))


# -- to rank


def strip_place(window: Canvas) -> Rect:
    """Returns the places of a ranking."""
    px, beside = window.px, max(window.px(56), window.measure("worst", 14)[0] + window.px(12))
    x = px(MARGIN) + beside
    return x, answers_top(window) - px(14 + STRIP), window.size[0] - 2 * x, px(STRIP)


def group_places(window: Canvas, order: Order, clips: int) -> list[Rect]:
    """Returns where the groups of the order stand in the strip: from the left, each as wide as its clips need."""
    x, y, width, height = strip_place(window)
    gap = window.px(14)
    cell = min(height, (width - gap * (clips - 1)) / clips)
    left = x + (width - clips * cell - gap * (clips - 1)) / 2
    places = []
    for group in order:
        places.append((left, y + (height - cell) / 2, cell * len(group), cell))
        left += cell * len(group) + gap
    return places


def drop_target(window: Canvas, order: Order, drag: Drag | None, clips: int) -> tuple[int, bool] | None:
    """Returns where the dragged clip would go: (group, whether it ties with it); None beside the strip."""
    if drag is None or not inside((drag.x, drag.y), grown(strip_place(window), window.px(20))):
        return None
    places = group_places(window, order, clips)
    for i, (x, _, width, _) in enumerate(places):
        if drag.x < x + width * 0.2:
            return i, False
        if drag.x < x + width * 0.8:
            return i, True
    return len(places), False


def draw_ranking(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    px, n = window.px, len(pictures)
    for i, (place, picture) in enumerate(zip(clip_places(window, RANKING, n), pictures, strict=True)):
        draw_clip(window, scene, i, place, picture, SIDE_A)
        if picture is None:
            continue
        if i in placed(scene.order):
            window.shade(0.55, place, BACKGROUND)
        badge(window, place, str(i + 1), MUTED if i in placed(scene.order) else SIDE_A)
    draw_strip(window, scene, pictures)
    x, y, width, height = answers_place(window, RANKING, n)
    gap = px(12)
    room = (width - 2 * gap) / 3
    back, ink = lit(scene, "confirm", GOOD, mix(BACKGROUND, GOOD, 0.35))
    window.button(
        (x, y, room, height),
        "Confirm the order",
        "confirm",
        hint="Enter",
        enabled=scene.enabled and scene.confirmable,
        colors=(back, ink),
        size=17,
    )
    may_tie = scene.enabled and bool(scene.order) and len(placed(scene.order)) < n
    window.button(
        (x + room + gap, y, room, height),
        "Next one ties",
        "tie switch",
        hint="T",
        enabled=may_tie,
        on=scene.tie,
        size=17,
    )
    draw_cannot_tell(window, scene, (x + 2 * (room + gap), y, room, height))


def draw_strip(window: Canvas, scene: Scene, pictures: Pictures) -> None:
    """Draws the order so far, best on the left, and where the dragged clip would go."""
    px, n = window.px, len(pictures)
    x, y, width, height = strip_place(window)
    window.box((x, y, width, height), PANEL, radius=10)
    if scene.order or scene.drag is not None:
        draw_empty_cells(window, scene.order, n)
    else:
        hint = "Press the number of the best clip first, then of the next best; or click on them, or drag them here"
        middle = (x + width / 2, y + height / 2)
        window.paragraph(hint, middle, width - px(16), 15, MUTED, align="center", middle=True)
    for word, at, align in (("best", x - px(10), "right"), ("worst", x + width + px(10), "left")):
        window.text(word, (at, y + height / 2), 14, MUTED, align=align, middle=True)
    groups = group_places(window, scene.order, n)
    target = drop_target(window, scene.order, scene.drag, n)
    for i, (group, place) in enumerate(zip(scene.order, groups, strict=True)):
        if target == (i, True):
            window.box(place, SIDE_B, radius=8)
        elif len(group) > 1:
            window.box(place, mix(BACKGROUND, SIDE_B, 0.35), radius=8)
        cell = place[2] / len(group)
        for k, clip in enumerate(group):
            draw_card(window, scene, clip, (place[0] + k * cell, place[1], cell, place[3]), pictures[clip])
    if target is not None and not target[1]:
        cells = group_places(window, (*scene.order, (0,)), n + 1 if len(groups) == n else n)
        left = (groups[target[0]] if target[0] < len(groups) else cells[-1])[0]
        window.box((left - px(9), y + px(6), px(4), height - px(12)), SIDE_A, radius=2)
    if scene.drag is not None:
        side = px(STRIP)
        place = (scene.drag.x - side / 2, scene.drag.y - side / 2, side, side)
        draw_card(window, scene, scene.drag.clip, place, pictures[scene.drag.clip])


def draw_empty_cells(window: Canvas, order: Order, clips: int) -> None:
    """Marks where the clips that have no place yet will stand."""
    free = tuple((clip,) for clip in range(clips) if clip not in placed(order))
    for x, y, width, height in group_places(window, (*order, *free), clips)[len(order) :]:
        inner = grown((x, y, width, height), -window.px(5))
        window.box(inner, PANEL, radius=6, border=LINE)


def draw_card(window: Canvas, scene: Scene, clip: int, place: Rect, picture: Array | None) -> None:
    """Draws a small clip in the order."""
    inner = grown(place, -window.px(5))
    window.box(inner, RAISED, radius=6)
    if picture is not None:
        window.picture(picture, inner, radius=6)
    x, y = inner[0] + window.px(13), inner[1] + window.px(13)
    window.disc((x, y), 10, SIDE_A)
    window.text(str(clip + 1), (x, y), 12, BACKGROUND, bold=True, align="center", middle=True)
    if scene.enabled:
        window.region(place, f"card {clip}")
