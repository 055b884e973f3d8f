"""A canvas of any size without a window, for the tests of what is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from rlhf_control.data import Array
from rlhf_control.viewer.kit import canvas as canvas_module
from rlhf_control.viewer.kit.canvas import Canvas, Rect, pygame

SMALL = [(1024, 600), (800, 480), (640, 400), (480, 320)]
SIZES = [(1280, 720), (2560, 1440), (900, 900), (640, 360), (1920, 700), (1000, 1400), *SMALL]


@contextmanager
def a_canvas(size: tuple[int, int] = (1280, 720)) -> Iterator[Canvas]:
    pygame.display.init()
    pygame.font.init()
    canvas = Canvas(pygame.Surface(size))
    canvas.clear()
    yield canvas
    pygame.font.quit()
    pygame.display.quit()


def pictures(n: int) -> list[Array | None]:
    return [np.full((48, 48, 3), 90 + 20 * i, np.uint8) for i in range(n)]


def watch_words(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Rect], list[str]]:
    """From now on: the places of all words on the canvas, and those words that were cut for want of room."""
    places: list[Rect] = []
    cut: list[str] = []
    placed, shortened = canvas._placed, canvas_module.shortened

    def place(*arguments: Any) -> Rect:
        places.append(placed(*arguments))
        return places[-1]

    def shorten(string: str, *arguments: Any) -> str:
        short = shortened(string, *arguments)
        cut.extend([string] * (short != string))
        return short

    monkeypatch.setattr(canvas, "_placed", place)
    monkeypatch.setattr(canvas_module, "shortened", shorten)
    return places, cut


def check_words(canvas: Canvas, places: list[Rect]) -> None:
    """No words leave the page or run into others."""
    width, height = canvas.size
    for i, (x, y, w, h) in enumerate(places):
        assert x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1, (places[i], canvas.size)
        assert not any(overlap(places[i], other) for other in places[:i]), (places[i], canvas.size)


def colors(canvas: Canvas, top: int = 0) -> int:
    """How many there are from this row on."""
    pixels = np.frombuffer(pygame.image.tobytes(canvas._surface, "RGBA"), np.uint32).reshape(canvas.size[::-1])
    return len(np.unique(pixels[top:]))


def overlap(a: Rect, b: Rect) -> bool:
    """By more than a pixel's rounding."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return width > 1 and height > 1


def check_places(canvas: Canvas) -> None:
    """What one can click on is within the page, apart from each other, and large enough for a mouse."""
    width, height = canvas.size
    for i, (place, action) in enumerate(canvas._regions):
        x, y, w, h = place
        assert x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1, (action, place, canvas.size)
        assert w >= 12 * canvas.unit and h >= 12 * canvas.unit, (action, place)
        for other, name in canvas._regions[:i]:
            assert not overlap(place, other), (action, name, canvas.size)
