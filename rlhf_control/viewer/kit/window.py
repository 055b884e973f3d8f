"""A window to draw in, and what the person at it does, by pygame-ce.

Positions, rectangles (x, y, width, height) and mouse positions are in pixels of the drawable, which has more of them
than the desktop's units on a high-density screen. Sizes of type, radii and line widths are in units: a window of
1280 x 720 pixels has one pixel to the unit, one twice as large two, so that a layout keeps its proportions
(`Canvas.px`). What can be drawn is in `kit.canvas`.

    with Window("title", (1280, 720)) as window:
        while True:
            for event in window.events():      # Key, KeyUp, Mouse, Resized, Closed
                ...
            window.clear()
            window.text("Hello", (40, 40), 24)
            window.picture(frame, (40, 80, 640, 480))
            window.button((40, 600, 160, 48), "Vote", "vote")
            window.present()
            window.tick()                      # 60 frames a second; a key press ends the wait at once
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rlhf_control.errors import UserError
from rlhf_control.viewer.kit.canvas import BASE, SIDE_A, SIDE_B, Canvas, Size, pygame

FPS = 60
FRAME = 80  # desktop units that a title bar and a panel take, roughly
WAKE = pygame.event.custom_type()


@dataclass(frozen=True)
class Key:
    """Says that a key went down. Keypad digits and Enter have the names of the others ("1", "return")."""

    name: str  # pygame's: "a", "left", "space", "backspace", "escape", "return", "[", ...
    text: str = ""  # what it types on this keyboard's layout, such as "?"
    shift: bool = False
    ctrl: bool = False  # or Command


@dataclass(frozen=True)
class KeyUp:
    name: str


@dataclass(frozen=True)
class Mouse:
    what: str  # "down", "up", "move", "wheel"
    x: float  # pixels
    y: float
    button: int = 0  # 1 left, 2 middle, 3 right; 0 for a move; for the wheel +1 up, -1 down


@dataclass(frozen=True)
class Resized:
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Closed:
    """Says that the person closed the window."""


Event = Key | KeyUp | Mouse | Resized | Closed


class NoDisplayError(UserError):
    """Says that there is no screen to open a window on."""


def display_problem() -> str:
    """Says why no window can be opened, as far as the environment tells; empty if it may work."""
    if sys.platform.startswith("linux") and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    ):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return ""


@contextmanager
def when_display_vanishes(last_word: Callable[[], None]) -> Iterator[None]:
    """Calls `last_word`, within, before X11's library ends the process because its server is gone, which nothing can
    prevent. Elsewhere there is no such thing."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")  # the one that SDL has loaded
    except OSError:
        yield
        return
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

    def handler(_: int) -> int:
        try:
            last_word()
        finally:
            print("rlhf-control: the display is gone; every vote is saved", file=sys.stderr, flush=True)
            os._exit(1)

    x11.XSetIOErrorHandler.restype = ctypes.c_void_p
    x11.XSetIOErrorHandler.argtypes = [ctypes.c_void_p]
    callback = kind(handler)
    before = x11.XSetIOErrorHandler(ctypes.cast(callback, ctypes.c_void_p))
    try:
        yield
    finally:
        x11.XSetIOErrorHandler(before)


class Window(Canvas):
    """See the module's text. `held` has the names of the keys that are down; `stale` says that what is on the screen
    was damaged or resized and has to be drawn again; `size` is in pixels; `unit` is pixels a unit."""

    def __init__(self, title: str, size: Size | None = None, *, least: Size = (480, 320)) -> None:
        """Opens the window. `size` is in the desktop's units; by default 1280 x 720, or the whole display where it has
        no room for that."""
        problem = display_problem()
        try:
            if problem:
                raise pygame.error(problem)
            pygame.display.init()  # not pygame.init(), which starts the sound
            pygame.font.init()
            if pygame.display.get_driver() == "x11":  # through OpenGL a frame would take ten times as long
                os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
            pygame.display.set_allow_screensaver(True)
            whole = size is None and not has_room(pygame.display.get_desktop_sizes()[0])
            size = size or fitting(pygame.display.get_desktop_sizes()[0])
            self._window = pygame.Window(title, size, resizable=True, allow_high_dpi=True)
            if whole:  # as much as bars and frames leave, which the desktop knows
                self._window.maximize()
            self._window.minimum_size = (min(least[0], size[0]), min(least[1], size[1]))
            self._window.set_icon(icon())
            super().__init__(self._window.get_surface())
        except pygame.error as error:
            raise NoDisplayError(
                f"no window can be opened ({error}); run this on a desktop or with ssh -X, or add --terminal"
            ) from None
        self.held: set[str] = set()
        self.stale = True
        self._pending: list[Any] = []
        self._next_frame = time.perf_counter()

    # -- the window

    def close(self) -> None:
        with suppress(pygame.error):
            self._window.destroy()
            pygame.font.quit()
            pygame.display.quit()

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def present(self) -> None:
        """Shows what was drawn."""
        self._window.flip()
        self.stale = False

    # -- what the person does

    def events(self) -> list[Event]:
        """Returns what happened since the last call. Unknown kinds of events are left out."""
        raw = [*self._pending, *pygame.event.get()]
        self._pending = []
        return [event for each in raw if (event := self._translated(each)) is not None]

    def tick(self) -> None:
        """Waits for the next frame's time; a key, a mouse button or `wake` ends the wait at once."""
        self._next_frame = max(self._next_frame + 1 / FPS, time.perf_counter() - 1 / FPS)
        while (left := self._next_frame - time.perf_counter()) > 0.0005:
            event = pygame.event.wait(max(1, int(left * 1000)))
            if event.type == pygame.NOEVENT:
                continue
            self._pending.append(event)
            if event.type in (pygame.KEYDOWN, pygame.MOUSEBUTTONDOWN, pygame.QUIT, WAKE):
                self._next_frame = time.perf_counter()
                return

    @staticmethod
    def wake() -> None:
        """Ends the wait of `tick`; may be called from any thread."""
        with suppress(pygame.error):  # the window is closed, or its queue full
            pygame.event.post(pygame.event.Event(WAKE))

    @staticmethod
    def interrupt() -> None:
        """Acts as if the person closed the window."""
        with suppress(pygame.error):
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    def _translated(self, event: Any) -> Event | None:
        kind = event.type
        if kind in (pygame.KEYDOWN, pygame.KEYUP):
            name = _key_name(event)
            if kind == pygame.KEYUP:
                self.held.discard(name)
                return KeyUp(name)
            self.held.add(name)
            ctrl = bool(event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META))
            return Key(name, getattr(event, "unicode", ""), bool(event.mod & pygame.KMOD_SHIFT), ctrl)
        if kind in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP, pygame.MOUSEMOTION):
            self.mouse = x, y = self._pixels(event.pos)
            what = {pygame.MOUSEBUTTONDOWN: "down", pygame.MOUSEBUTTONUP: "up"}.get(kind, "move")
            button = getattr(event, "button", 0)
            return None if button > 3 else Mouse(what, x, y, button)
        if kind == pygame.MOUSEWHEEL:
            return Mouse("wheel", *self.mouse, (event.y > 0) - (event.y < 0))
        if kind in (pygame.QUIT, pygame.WINDOWCLOSE):
            return Closed()
        if kind == pygame.WINDOWSIZECHANGED:
            self._surface = self._window.get_surface()
            self.stale = True
            return Resized(*self.size)
        if kind in (pygame.WINDOWEXPOSED, pygame.WINDOWSHOWN, pygame.WINDOWRESTORED):
            self.stale = True
        if kind == pygame.WINDOWFOCUSLOST:
            self.held.clear()  # their going up is told to another window
        if kind == pygame.WINDOWLEAVE:
            self.mouse = (-1.0, -1.0)
        return None

    def _pixels(self, position: tuple[float, float]) -> tuple[float, float]:
        """From the desktop's units."""
        width, height = self._window.size
        return position[0] * self.size[0] / max(1, width), position[1] * self.size[1] / max(1, height)


def has_room(display: Size) -> bool:
    """Tells whether a window of the usual size and its frame fit on the display."""
    return display[0] >= BASE[0] + FRAME and display[1] >= BASE[1] + FRAME


def fitting(display: Size) -> Size:
    """Returns the usual size, or that of a smaller display."""
    return min(BASE[0], display[0]), min(BASE[1], display[1])


def icon() -> pygame.Surface:
    """Draws the two sides."""
    picture = pygame.Surface((64, 64), pygame.SRCALPHA)
    pygame.draw.rect(picture, SIDE_A, (4, 12, 26, 40), border_radius=7)
    pygame.draw.rect(picture, SIDE_B, (34, 12, 26, 40), border_radius=7)
    return picture


def _key_name(event: Any) -> str:
    name = pygame.key.name(event.key)
    if name.startswith("[") and name.endswith("]") and len(name) == 3:
        name = name[1]  # of the keypad
    row = range(pygame.KSCAN_1, pygame.KSCAN_9 + 1)
    scancode = getattr(event, "scancode", 0)
    if scancode in row and not name.isalnum():  # French and Czech digits need Shift; here the place counts
        name = str(scancode - pygame.KSCAN_1 + 1)
    return "return" if name == "enter" else name
