"""What a canvas draws again and again, kept as surfaces: words, and pictures in the size they are shown in."""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pygame

CACHED_BYTES = 160_000_000  # of scaled pictures
CACHED_TEXTS = 500


class TypeCache:
    """Keeps fonts, and the words that were drawn last."""

    def __init__(self) -> None:
        self._fonts: dict[tuple[int, bool], pygame.font.Font] = {}
        self._texts: OrderedDict[tuple[Any, ...], pygame.Surface] = OrderedDict()

    def font(self, size: int, bold: bool) -> pygame.font.Font:
        """Returns the type of `size` pixels."""
        if (size, bold) not in self._fonts:
            self._fonts[size, bold] = pygame.font.Font(font_file(bold), size)
        return self._fonts[size, bold]

    def rendered(
        self, string: str, size: int, color: tuple[int, int, int], bold: bool, wrap: int | None, align: str = "left"
    ) -> pygame.Surface:
        """Returns the words in type of `size` pixels, in lines of at most `wrap` pixels, or in one."""
        key = (string, size, color, bold, wrap, align)
        if key in self._texts:
            self._texts.move_to_end(key)
            return self._texts[key]
        font = self.font(size, bold)
        font.align = {"left": pygame.FONT_LEFT, "center": pygame.FONT_CENTER, "right": pygame.FONT_RIGHT}[align]
        self._texts[key] = font.render(string, True, color, None, wrap or 0)
        if len(self._texts) > CACHED_TEXTS:
            self._texts.popitem(last=False)
        return self._texts[key]


class PictureCache:
    """Keeps the pictures that were scaled last."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[tuple[Any, ...], tuple[np.ndarray, pygame.Surface]] = OrderedDict()
        self._bytes = 0

    def scaled(self, frame: np.ndarray, size: tuple[int, int], like: pygame.Surface, cache: bool) -> pygame.Surface:
        """Returns a frame (H, W, 3) uint8 in a (width, height), ready for a surface `like` this one."""
        # The array is kept beside the picture, so no other can come to lie at its address while this one is cached.
        key = (frame.__array_interface__["data"][0], frame.strides, frame.shape, size)
        if cache and key in self._pictures:
            self._pictures.move_to_end(key)
            return self._pictures[key][1]
        whole = frame if frame.flags.c_contiguous else frame.copy()
        picture = pygame.image.frombuffer(whole.data, (frame.shape[1], frame.shape[0]), "RGB").convert(like)
        if picture.get_size() != size:
            picture = pygame.transform.smoothscale(picture, size)
        if cache:
            self._pictures[key] = (frame, picture)
            self._bytes += 4 * size[0] * size[1]
            while self._bytes > CACHED_BYTES and len(self._pictures) > 1:
                _, (_, dropped) = self._pictures.popitem(last=False)
                self._bytes -= 4 * dropped.get_width() * dropped.get_height()
        return picture

    def __len__(self) -> int:
        return len(self._pictures)


def shortened(string: str, font: pygame.font.Font, width: float) -> str:
    """Returns as much of a line as fits into `width` pixels, and an ellipsis for the rest."""
    if font.size(string)[0] <= width:
        return string
    while string and font.size(string + "…")[0] > width:
        string = string[:-1]
    return string.rstrip() + "…"


def font_file(bold: bool = False) -> str | None:
    """Finds DejaVu Sans, which has arrows and marks, as matplotlib brings it along; None is pygame's own type."""
    spec = find_spec("matplotlib")  # does not import it
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name if spec and spec.origin else None
    return str(path) if path is not None and path.is_file() else None
