"""Drawing on a surface: boxes, text, pictures and buttons; the colours of the windows.

Rectangles (x, y, width, height) and positions are in pixels. Sizes of type, radii and line widths are in units: a
surface of 1280 x 720 pixels has one pixel to the unit, one twice as large two, so that a layout keeps its proportions.
Type never becomes too small to read, so that what lies around words asks `measure` how wide they are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pygame

from rlhf_control.viewer.kit.caches import PictureCache, TypeCache, shortened
from rlhf_control.viewer.kit.regions import Rect, Regions, inside

os.environ.setdefault("SDL_VIDEO_X11_WMCLASS", "rlhf-control")
os.environ.setdefault("SDL_WINDOWS_DPI_AWARENESS", "permonitorv2")

Color = tuple[int, int, int]
Size = tuple[int, int]

# Okabe and Ito's orange and sky blue: told apart with every kind of colour blindness, and bright on dark.
BACKGROUND: Color = (18, 20, 24)
PANEL: Color = (32, 35, 42)
RAISED: Color = (46, 50, 60)
LINE: Color = (66, 71, 84)
TEXT: Color = (236, 238, 242)
MUTED: Color = (160, 167, 180)
SIDE_A: Color = (86, 180, 233)
SIDE_B: Color = (240, 168, 48)
GOOD: Color = (64, 196, 150)
BAD: Color = (240, 112, 96)

BASE: Size = (1280, 720)  # where one unit is one pixel
LEAST_UNIT = 0.375  # pixels: of a window of 480 x 320; a smaller one is cut
LEAST_TYPE = 11  # pixels: smaller type cannot be read
HINT = 0.84  # size of the key beside a button's label


class Canvas(Regions):
    """Draws what can be drawn on a surface. Type and scaled pictures are cached."""

    def __init__(self, surface: pygame.Surface) -> None:
        self._surface = surface
        super().__init__()
        self._type, self._pictures = TypeCache(), PictureCache()

    @property
    def size(self) -> Size:
        return self._surface.get_size()

    @property
    def unit(self) -> float:
        """Returns the pixels of one unit."""
        return max(LEAST_UNIT, min(self.size[0] / BASE[0], self.size[1] / BASE[1]))

    def px(self, units: float) -> int:
        """Converts units into whole pixels."""
        return round(units * self.unit)

    def screenshot(self, path: str | Path) -> None:
        """Writes what was drawn as a PNG."""
        pygame.image.save(self._surface, str(path))

    def pixel(self, x: float, y: float) -> Color:
        red, green, blue, *_ = self._surface.get_at((int(x), int(y)))
        return red, green, blue

    # -- drawing

    def clear(self, color: Color = BACKGROUND) -> None:
        """Begins an empty page; the buttons of the last one are gone."""
        self.forget()
        self._surface.fill(color)

    @contextmanager
    def clipped(self, rect: Rect) -> Iterator[None]:
        """Draws only within `rect`."""
        before = self._surface.get_clip()
        self._surface.set_clip(before.clip(pygame.Rect(*map(round, rect))))
        yield
        self._surface.set_clip(before)

    def box(self, rect: Rect, color: Color, *, radius: float = 0, border: Color | None = None, line: float = 1) -> None:
        """Draws a filled rectangle with round, smooth corners, and perhaps a border inside it."""
        x, y, width, height = (round(v) for v in rect)
        corner = min(self.px(radius), width // 2, height // 2)
        if border is not None:
            _rounded(self._surface, pygame.Rect(x, y, width, height), border, corner)
            inset = max(1, self.px(line))
            x, y, width, height = x + inset, y + inset, width - 2 * inset, height - 2 * inset
            corner = max(0, corner - inset)
        _rounded(self._surface, pygame.Rect(x, y, width, height), color, corner)

    def shade(self, alpha: float, rect: Rect | None = None, color: Color = (0, 0, 0)) -> None:
        """Covers the page, or `rect`, by a transparent color; alpha 1 is opaque."""
        x, y, width, height = (round(v) for v in (rect or (0, 0, *self.size)))
        veil = pygame.Surface((max(0, width), max(0, height)))
        veil.fill(color)
        veil.set_alpha(round(255 * alpha))
        self._surface.blit(veil, (x, y))

    def polygon(self, points: list[tuple[float, float]], color: Color) -> None:
        pygame.draw.polygon(self._surface, color, points)
        pygame.draw.aalines(self._surface, color, True, points)

    def disc(self, center: tuple[float, float], radius: float, color: Color) -> None:
        """Draws a filled circle; the radius in units."""
        radius = max(1, self.px(radius))
        self._surface.blit(_disc(radius, color, hole=False), (round(center[0]) - radius, round(center[1]) - radius))

    def measure(self, string: str, size: float, *, bold: bool = False) -> tuple[int, int]:
        """Returns the width and height in pixels of one line."""
        return self._type.font(type_size(self.unit, size), bold).size(_printable(string))

    def measure_paragraph(self, string: str, width: float, size: float, *, bold: bool = False) -> tuple[int, int]:
        """Returns the width and height in pixels of what `paragraph` draws."""
        return self._type.rendered(
            _printable(string), type_size(self.unit, size), TEXT, bold, max(1, int(width))
        ).get_size()

    def text(
        self, string: str, at: tuple[float, float], size: float = 16, color: Color = TEXT, *, bold: bool = False,
        align: str = "left", middle: bool = False, width: float | None = None,
    ) -> Rect:  # fmt: skip
        """Draws one line whose left end, center or right end (`align`) is at x, and whose upper edge, or middle, at y.
        What exceeds `width` pixels ends in an ellipsis. Returns the place it takes."""
        string = _printable(string)
        if width is not None:
            string = shortened(string, self._type.font(type_size(self.unit, size), bold), width)
        drawn = self._type.rendered(string, type_size(self.unit, size), color, bold, None)
        return self._placed(drawn, at, align, middle)

    def paragraph(
        self, string: str, at: tuple[float, float], width: float, size: float = 16, color: Color = TEXT, *,
        bold: bool = False, align: str = "left", middle: bool = False,
    ) -> Rect:  # fmt: skip
        """Draws lines of at most `width` pixels, placed as `text` places one."""
        tall, wrap = type_size(self.unit, size), max(1, int(width))
        drawn = self._type.rendered(_printable(string), tall, color, bold, wrap, align)
        return self._placed(drawn, at, align, middle)

    def picture(
        self, frame: np.ndarray, rect: Rect, *, radius: float = 0, around: Color = BACKGROUND, cache: bool = True
    ) -> Rect:
        """Draws a frame (H, W, 3) uint8, as large as fits into `rect`, in its middle; returns the place it takes. Round
        corners show the color `around`. A cached frame must not be changed afterwards: say `cache=False` for an array
        that is drawn into again and again."""
        place = fitted(frame.shape[1], frame.shape[0], rect)
        x, y, width, height = (round(v) for v in place)
        if width < 1 or height < 1:
            return place
        self._surface.blit(self._pictures.scaled(frame, (width, height), self._surface, cache), (x, y))
        if radius:
            corner = max(1, min(self.px(radius), width // 2, height // 2))
            _blit_corners(self._surface, pygame.Rect(x, y, width, height), corner, _disc(corner, around, hole=True))
        return place

    def warm(self, frame: np.ndarray, rect: Rect) -> None:
        """Scales a frame ahead of `picture`."""
        _, _, width, height = (round(v) for v in fitted(frame.shape[1], frame.shape[0], rect))
        if width > 0 and height > 0:
            self._pictures.scaled(frame, (width, height), self._surface, True)

    # -- buttons

    def button(
        self, rect: Rect, label: str, action: str, *, hint: str = "", enabled: bool = True,
        colors: tuple[Color, Color] = (RAISED, TEXT), size: float = 16, on: bool = False,
    ) -> None:  # fmt: skip
        """Draws a button with the key that does the same as its `hint`. `hit` finds its action. `colors` are the
        ground's and the type's. `on`: lit, as a switch."""
        color, ink = colors
        hovered = enabled and inside(self.mouse, rect)
        back = mix(color, TEXT, 0.16 if hovered else 0.0)
        ink = ink if enabled else mix(BACKGROUND, MUTED, 0.55)
        self.box(rect, back if enabled else mix(BACKGROUND, color, 0.6), radius=8, border=ink if on else None, line=2)
        x, y, width, height = rect
        middle = y + height / 2
        hint_width = self.measure(hint, size * HINT)[0] + self.px(10) if hint else 0
        if self.measure(label, size)[0] + hint_width > width - self.px(12):  # the label matters more
            hint, hint_width = "", 0
        room = max(1.0, width - hint_width - self.px(12))
        label_width = min(room, self.measure(label, size)[0])
        left = x + (width - label_width - hint_width) / 2
        self.text(label, (left, middle), size, ink, middle=True, width=room)
        if hint:
            faint = mix(back, ink, 0.78)
            self.text(hint, (left + label_width + self.px(10), middle), size * HINT, faint, middle=True)
        if enabled:
            self.region(rect, action)

    def _placed(self, drawn: pygame.Surface, at: tuple[float, float], align: str, middle: bool) -> Rect:
        width, height = drawn.get_size()
        x = at[0] - {"left": 0.0, "center": width / 2, "right": width}[align]
        y = at[1] - (height / 2 if middle else 0.0)
        self._surface.blit(drawn, (round(x), round(y)))
        return x, y, width, height


# -- geometry and colours


def fitted(width: float, height: float, rect: Rect) -> Rect:
    """Returns the largest place of these proportions in the middle of `rect`."""
    x, y, room, rows = rect
    scale = min(room / width, rows / height)
    return x + (room - width * scale) / 2, y + (rows - height * scale) / 2, width * scale, height * scale


def mix(a: Color, b: Color, share: float) -> Color:
    """Mixes two colours: `a` for share 0, `b` for 1."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def type_size(unit: float, size: float) -> int:
    """Returns the height of type in pixels, given that of a unit."""
    return max(LEAST_TYPE, round(size * unit))


def _printable(string: str) -> str:
    return "".join(c for c in string if c >= " " or c == "\n")


def _rounded(surface: pygame.Surface, rect: pygame.Rect, color: Color, corner: int) -> None:
    corner = min(corner, rect.width // 2, rect.height // 2)
    if corner < 1:
        surface.fill(color, rect)
        return
    surface.fill(color, rect.inflate(-2 * corner, 0))
    surface.fill(color, rect.inflate(0, -2 * corner))
    _blit_corners(surface, rect, corner, _disc(corner, color, hole=False))


def _blit_corners(surface: pygame.Surface, rect: pygame.Rect, corner: int, disc: pygame.Surface) -> None:
    """Copies a quarter of a disc's square into each corner."""
    for dx, x in ((0, rect.left), (corner, rect.right - corner)):
        for dy, y in ((0, rect.top), (corner, rect.bottom - corner)):
            surface.blit(disc, (x, y), (dx, dy, corner, corner))


@lru_cache(maxsize=256)
def _disc(radius: int, color: Color, hole: bool) -> pygame.Surface:
    """Returns a square with a disc of this colour in it, or with all around the disc (`hole`), smooth at its rim."""
    fine, around = 8 * radius, 255 if hole else 0  # drawn four times as large, then made small
    square = pygame.Surface((fine, fine), pygame.SRCALPHA)
    square.fill((*color, around))
    pygame.draw.circle(square, (*color, 255 - around), (fine / 2, fine / 2), fine / 2)
    return pygame.transform.smoothscale(square, (2 * radius, 2 * radius))
