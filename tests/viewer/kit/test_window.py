import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf_control.errors import UserError
from rlhf_control.viewer.kit import window as window_module
from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.kit.window import (
    Closed,
    Key,
    KeyUp,
    Mouse,
    NoDisplayError,
    Resized,
    Window,
    display_problem,
    fitting,
    has_room,
    when_display_vanishes,
)


@pytest.fixture
def window() -> Iterator[Window]:
    with Window("test", (1280, 720)) as opened:
        opened.events()
        yield opened


def post(kind: int, **fields: Any) -> None:
    pygame.event.post(pygame.event.Event(kind, **fields))


def test_keys(window: Window) -> None:
    post(pygame.KEYDOWN, key=pygame.K_LEFT, mod=0, unicode="")
    post(pygame.KEYDOWN, key=pygame.K_SLASH, mod=pygame.KMOD_LSHIFT, unicode="?")
    post(pygame.KEYDOWN, key=pygame.K_z, mod=pygame.KMOD_LCTRL, unicode="\x1a")
    assert window.events() == [Key("left"), Key("/", "?", True), Key("z", "\x1a", ctrl=True)]
    assert window.held == {"left", "/", "z"}
    post(pygame.KEYUP, key=pygame.K_z, mod=0)
    assert window.events() == [KeyUp("z")] and window.held == {"left", "/"}
    post(pygame.WINDOWFOCUSLOST)
    assert window.events() == [] and window.held == set()


@pytest.mark.parametrize(
    ("key", "scancode", "name"),
    [
        (pygame.K_KP3, 0, "3"), (pygame.K_KP_ENTER, 0, "return"), (pygame.K_LEFTBRACKET, 0, "["),
        (pygame.K_2, pygame.KSCAN_2, "2"), (pygame.K_AMPERSAND, pygame.KSCAN_1, "1"),  # the latter on a French keyboard
    ],
)  # fmt: skip
def test_names_of_keys(window: Window, key: int, scancode: int, name: str) -> None:
    post(pygame.KEYDOWN, key=key, mod=0, unicode="", scancode=scancode)
    assert window.events() == [Key(name)]


def test_the_mouse(window: Window) -> None:
    post(pygame.MOUSEMOTION, pos=(10, 20), rel=(0, 0), buttons=(0, 0, 0))
    post(pygame.MOUSEBUTTONDOWN, pos=(11, 20), button=1)
    post(pygame.MOUSEBUTTONUP, pos=(12, 20), button=3)
    post(pygame.MOUSEBUTTONDOWN, pos=(12, 20), button=4)  # a wheel, as old programs knew it
    post(pygame.MOUSEWHEEL, x=0, y=-2)
    assert window.events() == [
        Mouse("move", 10, 20), Mouse("down", 11, 20, 1), Mouse("up", 12, 20, 3), Mouse("wheel", 12, 20, -1),
    ]  # fmt: skip
    assert window.mouse == (12, 20)
    post(pygame.WINDOWLEAVE)
    window.events()
    assert window.mouse == (-1, -1)


def test_resizing_and_closing(window: Window) -> None:
    window.present()
    assert not window.stale
    window._window.size = (1920, 1080)
    assert Resized(1920, 1080) in window.events()
    assert window.stale and window.size == (1920, 1080) and window.unit == 1.5
    window.present()
    post(pygame.WINDOWEXPOSED)
    assert window.events() == [] and window.stale
    post(pygame.QUIT)
    assert window.events() == [Closed()]


def test_mouse_positions_are_in_pixels_where_these_are_finer(window: Window) -> None:
    window._surface = pygame.Surface((2560, 1440))  # of a high-density screen; the window has 1280 x 720 units
    post(pygame.MOUSEBUTTONDOWN, pos=(100, 50), button=1)
    assert window.events() == [Mouse("down", 200, 100, 1)] and window.px(10) == 20


def test_sixty_frames_a_second(window: Window) -> None:
    window.tick()
    start = time.perf_counter()
    for _ in range(12):
        window.tick()
    assert 0.17 < time.perf_counter() - start < 5  # longer only on a busy machine


def test_a_key_ends_the_wait_at_once(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "FPS", 0.1)
    for kind, fields in ((pygame.KEYDOWN, {"key": pygame.K_a, "mod": 0, "unicode": "a"}), (pygame.QUIT, {})):
        post(kind, **fields)
        start = time.perf_counter()
        window.tick()
        assert time.perf_counter() - start < 5
        assert len(window.events()) == 1


def test_another_thread_can_end_the_wait(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "FPS", 0.1)
    threading.Timer(0.002, window.wake).start()
    start = time.perf_counter()
    window.tick()
    assert time.perf_counter() - start < 5
    window.interrupt()
    assert window.events() == [Closed()]


def test_a_window_can_be_closed_twice_and_opened_again() -> None:
    for _ in range(2):
        window = Window("test", (640, 400))
        assert window.size == (640, 400)
        window.close()
        window.close()
        window.wake()  # too late, and harmless


def test_the_window_fits_its_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for display, size in [((3840, 2160), (1280, 720)), ((800, 480), (800, 480)), ((720, 1280), (720, 720))]:
        assert fitting(display) == size
        monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda display=display: [display])
        with Window("test") as opened:
            assert opened.size == size
        with Window("test", (900, 500)) as opened:
            assert opened.size == (900, 500)  # as one wished
    assert has_room((1920, 1080)) and not has_room((1280, 720)) and not has_room((1366, 768))  # with bars and a frame


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert display_problem() == ""  # the tests' driver needs none
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with pytest.raises(NoDisplayError, match="--terminal"):
        Window("test")
    monkeypatch.delenv("SDL_VIDEODRIVER")
    assert "DISPLAY" in display_problem()
    with pytest.raises(UserError, match="DISPLAY"):
        Window("test")


def test_no_sound_is_started() -> None:
    code = "from rlhf_control.viewer.kit.window import Window, pygame\nwith Window('x'): print(pygame.mixer.get_init())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (out.stdout, out.stderr) == ("None\n", "")


def test_nothing_happens_while_the_display_stays() -> None:
    with when_display_vanishes(lambda: pytest.fail("it is there")):
        pass
