import numpy as np
import pytest

from rlhf_control.viewer.kit import caches
from rlhf_control.viewer.kit.caches import font_file
from rlhf_control.viewer.kit.canvas import BACKGROUND, Canvas, pygame


def test_a_picture_is_scaled_smoothly_and_kept(canvas: Canvas) -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[:, 1] = 255
    place = canvas.picture(frame, (0, 0, 400, 200))
    assert place == (100, 0, 200, 200)
    assert canvas.pixel(105, 100)[0] < 20 and canvas.pixel(295, 100)[0] > 235
    assert 60 < canvas.pixel(200, 100)[0] < 200
    first = canvas._pictures.scaled(frame, (200, 200), canvas._surface, True)
    assert canvas._pictures.scaled(frame, (200, 200), canvas._surface, True) is first
    assert canvas._pictures.scaled(frame[:], (200, 200), canvas._surface, True) is first  # the same pixels in memory
    assert canvas._pictures.scaled(frame, (200, 200), canvas._surface, False) is not first
    canvas.picture(frame[:, ::-1], (400, 0, 200, 200), radius=30)  # not in one piece of memory
    assert canvas.pixel(405, 100)[0] > 235 and canvas.pixel(400, 0) == BACKGROUND
    canvas.picture(frame, (0, 0, 0.2, 10))  # no room


def test_pictures_are_forgotten_in_time(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "CACHED_BYTES", 4 * 100 * 100 * 3)
    frames = [np.full((10, 10, 3), i, np.uint8) for i in range(6)]
    for frame in frames:
        canvas.picture(frame, (0, 0, 100, 100))
    assert len(canvas._pictures) == 3
    canvas.picture(frames[0], (0, 0, 100, 100))
    assert canvas.pixel(50, 50) == (0, 0, 0)


def test_the_letters_and_arrows_that_the_pages_use_are_there(canvas: Canvas) -> None:
    """A missing character is drawn as the same box as any other that is missing."""
    assert font_file() and font_file(bold=True)
    font = pygame.font.Font(font_file(), 30)
    missing = font.metrics("\uf123")[0]
    for character in "←→↑↓⌫↺‹›−×…AZ09":
        assert font.metrics(character)[0] not in (None, missing), character
