from collections.abc import Iterator

import numpy as np
import pytest

from rlhf_control.viewer.kit.canvas import Canvas
from rlhf_control.viewer.play.drive import (
    DRIVING,
    OVER,
    PAUSED,
    READY,
    SPEEDS,
    Drive,
    DriveButton,
    common_buttons,
    draw_buttons,
    draw_panel,
    draw_picture,
    label_of,
    split,
)
from rlhf_control.viewer.play.driver import Driver
from tests.hands import pygame


@pytest.fixture
def canvas() -> Iterator[Canvas]:
    pygame.display.init()
    pygame.font.init()
    yield Canvas(pygame.Surface((1280, 720), 0, 32))
    pygame.display.quit()


def test_time_passes_at_the_environments_rate() -> None:
    drive = Drive(Driver("CartPole-v1", {}))  # 50 steps a second
    drive.advance(0.1)
    assert drive.phase == READY and not drive.driver.steps  # nothing moves before the first key
    assert drive.press("left") == ""
    for _ in range(6):
        drive.advance(1 / 60)
    assert drive.phase == DRIVING and len(drive.driver.steps) == 5
    assert drive.driver.steps[0].action.tolist() == [1, 0]
    drive.release("left")
    drive.advance(5.0)  # a slow machine does not catch up with all of it
    assert len(drive.driver.steps) == 10


def test_a_tap_between_two_frames_counts() -> None:
    drive = Drive(Driver("MountainCar-v0", {}))
    drive.press("right")
    drive.release("right")
    drive.advance(0.07)
    assert [int(step.action.argmax()) for step in drive.driver.steps] == [2, 1]


def test_slow_motion_pause_and_restart() -> None:
    drive = Drive(Driver("MountainCar-v0", {}), rate=10)
    for _ in range(20):
        drive.do(drive.press("["))
    assert SPEEDS[drive.speed] == 0.1 and drive.press("[") == "slower"
    drive.press("left")
    for _ in range(30):
        drive.advance(0.1)
    assert len(drive.driver.steps) == 3
    drive.do(drive.press("]"))
    assert SPEEDS[drive.speed] == 0.2
    drive.do(drive.press("p"))
    drive.advance(0.1)
    assert drive.phase == PAUSED and len(drive.driver.steps) == 3
    drive.press("right")  # goes on, as P does
    assert drive.phase == DRIVING
    drive.do(drive.press("r"))
    assert drive.phase == READY and drive.driver.steps == []


def test_a_limit_ends_it() -> None:
    drive = Drive(Driver("HalfCheetah-v5", {}), limit=4)
    start = drive.driver.state()
    drive.start = start
    drive.press("q")
    for _ in range(10):
        drive.advance(0.1)
    assert drive.phase == OVER and drive.whole and len(drive.driver.steps) == 4 and len(drive.frames) >= 2
    drive.restart()
    assert start is not None and not drive.whole and drive.frames == []
    np.testing.assert_array_equal(drive.driver.state(), start)
    drive.close()


def test_an_episode_that_ends_early_is_not_whole() -> None:
    drive = Drive(Driver("CartPole-v1", {}), limit=400)
    drive.press("left")
    while drive.phase == DRIVING:
        drive.advance(0.1)
    assert drive.driver.over and not drive.whole


def test_another_camera() -> None:
    drive = Drive(Driver("HalfCheetah-v5", {}))
    before = drive.picture
    assert drive.cameras > 1
    drive.do("camera")
    assert (drive.picture != before).any()
    drive.close()
    flat = Drive(Driver("CartPole-v1", {}))
    assert flat.cameras == 1 and flat.picture.shape == (400, 600, 3)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "CartPole-v1", "Ant-v5"])
def test_everything_finds_its_place(canvas: Canvas, env_id: str) -> None:
    drive = Drive(Driver(env_id, {}))
    drive.press(sorted(drive.driver.controls.keys)[0])
    for size in ((1280, 720), (2560, 1440), (640, 480)):
        page = Canvas(pygame.Surface(size, 0, 32))
        picture, panel = split(page)
        draw_picture(page, drive, picture, "Ready")
        top = draw_buttons(page, panel, [[DriveButton("Save", "save", "Enter")], common_buttons(drive)])
        draw_panel(page, drive, panel, "Driving", "words", top)
        assert picture[0] + picture[2] <= panel[0] and panel[0] + panel[2] <= size[0]
        assert panel[1] < top < size[1]
        assert page.hit(panel[0] + 5, top + 5) == "save"
    drive.close()


def test_keys_have_names() -> None:
    assert [label_of(key) for key in ("q", "left", "return", "[", "backspace")] == ["Q", "←", "Enter", "[", "Backspace"]
