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
    Button,
    Ride,
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
    ride = Ride(Driver("CartPole-v1", {}))  # 50 steps a second
    ride.advance(0.1)
    assert ride.phase == READY and not ride.driver.steps  # nothing moves before the first key
    assert ride.press("left") == ""
    for _ in range(6):
        ride.advance(1 / 60)
    assert ride.phase == DRIVING and len(ride.driver.steps) == 5
    assert ride.driver.steps[0].action.tolist() == [1, 0]
    ride.release("left")
    ride.advance(5.0)  # a slow machine does not catch up with all of it
    assert len(ride.driver.steps) == 10


def test_a_tap_between_two_frames_counts() -> None:
    ride = Ride(Driver("MountainCar-v0", {}))
    ride.press("right")
    ride.release("right")
    ride.advance(0.07)
    assert [int(step.action.argmax()) for step in ride.driver.steps] == [2, 1]


def test_slow_motion_pause_and_restart() -> None:
    ride = Ride(Driver("MountainCar-v0", {}), rate=10)
    for _ in range(20):
        ride.do(ride.press("["))
    assert SPEEDS[ride.speed] == 0.1 and ride.press("[") == "slower"
    ride.press("left")
    for _ in range(30):
        ride.advance(0.1)
    assert len(ride.driver.steps) == 3
    ride.do(ride.press("]"))
    assert SPEEDS[ride.speed] == 0.2
    ride.do(ride.press("p"))
    ride.advance(0.1)
    assert ride.phase == PAUSED and len(ride.driver.steps) == 3
    ride.press("right")  # goes on, as P does
    assert ride.phase == DRIVING
    ride.do(ride.press("r"))
    assert ride.phase == READY and ride.driver.steps == []


def test_a_limit_ends_it() -> None:
    ride = Ride(Driver("HalfCheetah-v5", {}), limit=4)
    start = ride.driver.state()
    ride.start = start
    ride.press("q")
    for _ in range(10):
        ride.advance(0.1)
    assert ride.phase == OVER and ride.whole and len(ride.driver.steps) == 4 and len(ride.frames) >= 2
    ride.restart()
    assert start is not None and not ride.whole and ride.frames == []
    np.testing.assert_array_equal(ride.driver.state(), start)
    ride.close()


def test_an_episode_that_ends_early_is_not_whole() -> None:
    ride = Ride(Driver("CartPole-v1", {}), limit=400)
    ride.press("left")
    while ride.phase == DRIVING:
        ride.advance(0.1)
    assert ride.driver.over and not ride.whole


def test_another_camera() -> None:
    ride = Ride(Driver("HalfCheetah-v5", {}))
    before = ride.picture
    assert ride.cameras > 1
    ride.do("camera")
    assert (ride.picture != before).any()
    ride.close()
    flat = Ride(Driver("CartPole-v1", {}))
    assert flat.cameras == 1 and flat.picture.shape == (400, 600, 3)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "CartPole-v1", "Ant-v5"])
def test_everything_finds_its_place(canvas: Canvas, env_id: str) -> None:
    ride = Ride(Driver(env_id, {}))
    ride.press(sorted(ride.driver.controls.keys)[0])
    for size in ((1280, 720), (2560, 1440), (640, 480)):
        page = Canvas(pygame.Surface(size, 0, 32))
        picture, panel = split(page)
        draw_picture(page, ride, picture, "Ready")
        top = draw_buttons(page, panel, [[Button("Save", "save", "Enter")], common_buttons(ride)])
        draw_panel(page, ride, panel, "Driving", "words", top)
        assert picture[0] + picture[2] <= panel[0] and panel[0] + panel[2] <= size[0]
        assert panel[1] < top < size[1]
        assert page.hit(panel[0] + 5, top + 5) == "save"
    ride.close()


def test_keys_have_names() -> None:
    assert [label_of(key) for key in ("q", "left", "return", "[", "backspace")] == ["Q", "←", "Enter", "[", "Backspace"]
