"""A canvas of any size without a window, for the tests of what is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rlhf_control.data import Array
from rlhf_control.viewer.canvas import Canvas, Rect, pygame

SIZES = [(1280, 720), (2560, 1440), (900, 900), (640, 360), (1920, 700), (1000, 1400)]


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
    for i, (place, action) in enumerate(canvas._buttons):
        x, y, w, h = place
        assert x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1, (action, place, canvas.size)
        assert w >= 12 * canvas.unit and h >= 12 * canvas.unit, (action, place)
        for other, name in canvas._buttons[:i]:
            assert not overlap(place, other), (action, name, canvas.size)
