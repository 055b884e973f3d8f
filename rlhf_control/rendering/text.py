"""Clips that are text: a prompt and the reply to it, as words and as a picture.

H height, W width. Frames are (T, H, W, 3) uint8.
"""

import numpy as np
from PIL import Image, ImageDraw

from rlhf_control.data import Array, Segments
from rlhf_control.rendering.video import font
from rlhf_control.simulation.dialogues import is_dialogue, said

__all__ = ["draw_text", "is_dialogue", "said"]

PAPER, INK, FAINT, RULE = (250, 249, 245), (28, 30, 34), (105, 108, 114), (214, 212, 204)
LARGEST, SMALLEST = 34, 9  # pixels of type in a picture of 480
NOTHING = "(says nothing)"


def draw_text(clip: Segments, width: int, height: int) -> Array:
    """Draws a clip as one frame, (1, H, W, 3): what was said, and below it the reply, as large as both fit."""
    prompt, reply = said(clip)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    margin, top = width // 16, height // 6  # the window marks clips with a letter in the corner
    for size in range(LARGEST * min(width, height) // 480, 0, -1):
        first = wrapped(draw, prompt, max(1, size * 3 // 4), width - 2 * margin)
        second = wrapped(draw, reply or NOTHING, size, width - 2 * margin)
        tall = (len(first) * size * 3 // 4 + len(second) * size) * 4 // 3 + top + 2 * margin
        if tall <= height or size <= SMALLEST * min(width, height) // 480:
            break
    y = top
    for lines, line_size, color in ((first, max(1, size * 3 // 4), FAINT), (second, size, INK if reply else FAINT)):
        for line in lines:
            draw.text((margin, y), line, color, font(line_size))
            y += line_size * 4 // 3
        if lines is first:
            y += margin // 2
            draw.line([(margin, y), (width - margin, y)], RULE, max(1, width // 240))
            y += margin // 2
    return np.asarray(image)[None].copy()


def wrapped(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> list[str]:
    """Breaks a text into lines of at most `width` pixels, within words only where a word is longer."""
    lines, line = [], ""
    for word in text.split():
        while draw.textlength(word, font(size)) > width and len(word) > 1:
            fits = next(
                n for n in range(len(word) - 1, 0, -1) if n == 1 or draw.textlength(word[:n], font(size)) <= width
            )
            lines += [line] * bool(line) + [word[:fits]]
            line, word = "", word[fits:]
        longer = f"{line} {word}".strip()
        if line and draw.textlength(longer, font(size)) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]
