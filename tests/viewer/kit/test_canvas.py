from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.viewer.kit.canvas import BACKGROUND, Canvas, fitted, inside, mix, pygame

RED = (255, 0, 0)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.integers(1, 500))
def test_a_fitted_place_keeps_its_proportions(width: int, height: int, room: int, rows: int) -> None:
    x, y, w, h = fitted(width, height, (10, 20, room, rows))
    assert w / h == pytest.approx(width / height)
    assert w == pytest.approx(room) or h == pytest.approx(rows)
    assert x - 10 == pytest.approx(room - (x - 10 + w)) and y - 20 == pytest.approx(rows - (y - 20 + h))


def test_colours_and_points() -> None:
    assert mix((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)
    assert inside((1, 1), (1, 1, 2, 2)) and not inside((3, 1), (1, 1, 2, 2))


def test_units_follow_the_size(canvas: Canvas) -> None:
    assert canvas.unit == 1 and canvas.px(10) == 10
    assert Canvas(pygame.Surface((2560, 1440))).px(10) == 20
    assert Canvas(pygame.Surface((2560, 720))).px(10) == 10  # as wide as one likes: it grows when both do


def test_a_box_has_round_corners_and_a_border(canvas: Canvas) -> None:
    canvas.box((100, 100, 200, 100), RED, radius=20, border=(0, 255, 0), line=4)
    assert canvas.pixel(100, 100) == BACKGROUND and canvas.pixel(299, 199) == BACKGROUND
    assert canvas.pixel(200, 101) == (0, 255, 0) and canvas.pixel(298, 150) == (0, 255, 0)
    assert canvas.pixel(200, 150) == RED
    canvas.box((0, 0, 0, 50), RED, radius=8)  # nothing to draw
    canvas.disc((600, 400), 20, RED)
    assert canvas.pixel(600, 400) == RED and canvas.pixel(619, 419) == BACKGROUND
    canvas.shade(0.5, (590, 390, 20, 20), (0, 0, 0))
    assert canvas.pixel(600, 400) == (128, 0, 0) or canvas.pixel(600, 400) == (127, 0, 0)
    canvas.polygon([(700, 400), (740, 400), (720, 440)], RED)
    assert canvas.pixel(720, 410) == RED


def test_text_is_placed_and_shortened(canvas: Canvas) -> None:
    left = canvas.text("Hello", (100, 100))
    right = canvas.text("Hello", (100, 100), align="right", middle=True)
    center = canvas.text("Hello", (100, 100), align="center")
    assert left[0] == 100 and right[0] == 100 - left[2] and center[0] == 100 - left[2] / 2
    assert right[1] == 100 - left[3] / 2
    assert canvas.text("A very long line of text", (0, 0), width=80)[2] <= 80
    assert canvas.text("null\0and\x1bescape", (0, 0))[2] > 0
    _, _, width, height = canvas.paragraph("words " * 30, (0, 200), 200, align="center")
    assert width <= 200 and height > 3 * left[3]


def test_a_button_is_brighter_under_the_mouse(canvas: Canvas) -> None:
    canvas.button((0, 0, 100, 40), "", "vote")
    before = canvas.pixel(50, 5)
    canvas.mouse = (50, 20)
    canvas.button((0, 0, 100, 40), "", "vote")
    assert canvas.pixel(50, 5) > before
    canvas.show_hand()


def test_drawing_within_bounds(canvas: Canvas) -> None:
    with canvas.clipped((0, 0, 50, 50)):
        canvas.box((0, 0, 100, 100), RED)
    assert canvas.pixel(40, 40) == RED and canvas.pixel(60, 60) == BACKGROUND


def test_a_screenshot(canvas: Canvas, tmp_path: Path) -> None:
    canvas.box((0, 0, 100, 100), RED)
    canvas.screenshot(tmp_path / "page.png")
    again = pygame.image.load(tmp_path / "page.png")
    assert again.get_size() == (1280, 720) and again.get_at((50, 50))[:3] == RED
