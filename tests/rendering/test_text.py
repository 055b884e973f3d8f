"""Clips that are text."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from envs import DIALOGUE
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.rendering.text import draw_text, said, wrapped
from rlhf_control.rendering.video import font
from tests.dialogues import dialogue


def test_a_reply_is_drawn_and_another_one_looks_different() -> None:
    clips = [dialogue("How are you?", reply) for reply in ("I am well.", "I am not well.", "")]
    renderer = ClipRenderer(DIALOGUE, {})
    pictures = [renderer.draw(clip, 240, 160) for clip in clips]
    assert {picture.shape for picture in pictures} == {(1, 160, 240, 3)} and renderer.cameras == ["picture"]
    assert all((a != b).any() for a, b in zip(pictures, [*pictures[1:], pictures[0]], strict=True))
    np.testing.assert_array_equal(pictures[0], draw_text(clips[0], 240, 160))
    renderer.close()
    assert said(clips[0]) == ("How are you?", "I am well.")


@pytest.mark.parametrize("size", [(96, 96), (480, 320), (320, 480)])
def test_the_longest_reply_stays_within_the_picture(size: tuple[int, int]) -> None:
    clip = dialogue("what is artificial intelligence and " * 5, "conversation " * 23, end=False)
    picture = draw_text(clip, *size)[0]
    paper = (picture == picture[0, 0]).all(-1)
    assert paper[:, -2:].all() and paper[-2:].all() and not paper.all()


def test_lines_break_between_words_and_within_long_ones() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    lines = wrapped(draw, "a bb " + "c" * 40 + " d", 12, 60)
    assert all(draw.textlength(line, font(12)) <= 60 for line in lines) and len(lines) > 3
    assert "".join(lines).replace(" ", "") == "abb" + "c" * 40 + "d"
