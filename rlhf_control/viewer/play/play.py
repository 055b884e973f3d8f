"""`rlhf-control play ENV`: a person drives an environment with the keyboard; the episodes become a demonstration. And
`record_correction`: the same from a stored state for the length of a clip, as a correction."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlhf_control.config.commands import PlayConfig
from rlhf_control.data import Array, Segments
from rlhf_control.errors import Stopped, UserError
from rlhf_control.feedback.recordings import join, load_recording, save_recording
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.viewer.kit.canvas import BACKGROUND, BAD, GOOD, MUTED, SIDE_A, Color, Rect, mix, pygame
from rlhf_control.viewer.kit.window import (
    Closed,
    Event,
    Key,
    KeyUp,
    Mouse,
    Window,
    display_problem,
    when_display_vanishes,
)
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
    draw_facts,
    draw_panel,
    draw_picture,
    facts_height,
    facts_of,
    split,
)
from rlhf_control.viewer.play.driver import Driver
from rlhf_control.viewer.play.gamepad import Gamepad
from rlhf_control.viewer.vote.keys import key_of
from rlhf_control.wording import counted

SAID_SECONDS = 3.0  # how long a word on what was done stays


@environments_closed()
def play(config: PlayConfig) -> int:
    """Opens the window until the person leaves; prints where the recording is."""
    if problem := display_problem():
        raise UserError(f"play needs a window, and {problem}; run it on a desktop or with ssh -X")
    out = Path(config.out or f"recordings/{file_name(config.name)}-{time.strftime('%Y%m%d-%H%M%S')}.npz")
    page = PlayPage(Drive(Driver(config.name, config.env, seed=config.seed), rate=config.fps), out)
    caught = drive_in_window(f"play {config.name}", page, page.leave)
    if page.unsaved:
        print(f"the last episode was not saved: {page.problem}", file=sys.stderr)
    if caught:
        raise Stopped(caught[0], f"what was driven is in {out}" if page.saved else "nothing was driven")
    if page.saved is None:
        print("nothing was saved")
        return 0
    print(f"{counted(page.episodes, 'episode')}, {counted(len(page.saved), 'step')}, in {out}")
    print(f"learn from it with: rlhf-control finetune POLICY --demonstrations {out}")
    return 0


def record_correction(
    window: Window, env_id: str, env: Mapping[str, Any], start: Array, steps: int, *, original: Array | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Segments | None:  # fmt: skip
    """Records a correction: the person drives from a stored state (D,) for so many steps, may try again, and accepts
    (L, ...) or cancels (None). `original`: frames (T, H, W, 3) of what is to be done better, shown beside. `stop` is
    asked at every frame whether to leave. Raises UserError if the environment cannot be driven by keys, or not from
    there."""
    driver = Driver(env_id, env)
    try:
        page = CorrectionPage(Drive(driver, limit=steps, start=start), original)
        try:
            run(window, page, stop)
        finally:
            page.drive.close()
    finally:
        if driver.drawn_by_us:  # the others bring pygame down, and the window is still needed
            driver.close()
    if page.closed:  # whose window it is has to know
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    return page.accepted


def file_name(env_id: str) -> str:
    """Returns the id as a part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in env_id)


# -- the loop


class DrivePage(Protocol):
    """Names what the loop needs."""

    @property
    def drive(self) -> Drive: ...

    left: bool  # the person is done
    keys: Mapping[str, str]  # key -> what it does besides driving

    def do(self, command: str) -> None: ...

    def advance(self, seconds: float) -> None: ...

    def draw(self, window: Window) -> None: ...


def drive_in_window(title: str, page: DrivePage, leave: Callable[[], None]) -> list[int]:
    """Opens a window, drives there until the person leaves or a signal comes, and returns the signals that came.
    `leave` is called before the window closes, and also when the display vanishes."""
    try:
        with Window(title) as window, deferred_signals() as caught, when_display_vanishes(leave):
            page.drive.gamepad = Gamepad.first()
            run(window, page, lambda: bool(caught))
            leave()
    finally:
        page.drive.close()
        page.drive.driver.close()  # after the window: some environments bring pygame down
    return caught


def run(window: Window, page: DrivePage, stop: Callable[[], bool]) -> None:
    """Runs until the person leaves, or `stop` says so."""
    before = time.perf_counter()
    while not page.left and not stop():
        for event in window.events():
            handle(event, window, page)
        page.drive.held &= window.held  # a key may have gone up while another window had the keyboard
        now = time.perf_counter()
        page.advance(now - before)
        before = now
        window.clear()
        page.draw(window)
        window.show_hand()
        window.present()
        window.tick()


def handle(event: Event, window: Window, page: DrivePage) -> None:
    match event:
        case Key(name) if name in page.keys:
            page.do(page.keys[name])
        case Key():
            page.do(page.drive.press(key_of(event)))
        case KeyUp(name):
            page.drive.release(name)
        case Mouse("down", x, y, 1):
            page.do(window.hit(x, y))
        case Closed():
            page.do("close")


@dataclass
class Said:
    """Holds a word on what was just done."""

    words: str = ""
    ink: Color = GOOD
    until: float = 0.0

    def say(self, words: str, ink: Color = GOOD, seconds: float = SAID_SECONDS) -> None:
        self.words, self.ink, self.until = words, ink, time.monotonic() + seconds

    def __bool__(self) -> bool:
        return time.monotonic() < self.until


# -- demonstrations


class PlayPage:
    """Drives episode after episode; each that is saved is on the disk at once. A file that is there already goes on."""

    keys: Mapping[str, str] = {"return": "save", "escape": "leave"}

    def __init__(self, drive: Drive, out: Path) -> None:
        self.drive, self.out = drive, out
        driver = drive.driver
        self.saved = load_recording(out, driver.env_id, driver.sizes) if out.exists() else None
        self.episodes = len(self.saved.episodes()) if self.saved else 0
        self.left = False
        self.unsaved, self.problem = False, ""  # the person was told, and may leave all the same
        self.said = Said()

    def do(self, command: str) -> None:
        if command == "save":
            self.save()
        elif command in ("leave", "close"):
            self.leave()
        else:
            self.drive.do(command)

    def leave(self) -> None:
        """Saves the episode so far, if there is one, and leaves; stays to say so if that fails, but not twice."""
        self.left = self.left or self.unsaved or not self.drive.driver.steps or self.save()

    def advance(self, seconds: float) -> None:
        self.drive.advance(seconds)

    def save(self) -> bool:
        """Keeps the episode so far, and starts the next; returns whether it worked."""
        steps = len(self.drive.driver.steps)
        if not steps:
            self.said.say("Nothing to save yet", MUTED)
            return True
        episode = self.drive.driver.recording()
        everything = join([self.saved, episode]) if self.saved else episode
        try:
            save_recording(self.out, everything)
        except UserError as error:
            self.unsaved, self.problem = True, str(error)
            self.said.say(f"{error}. Esc leaves without it.", BAD, 3600.0)
            return False
        self.saved, self.episodes, self.unsaved = everything, self.episodes + 1, False
        self.said.say(f"Episode {self.episodes} saved: {counted(steps, 'step')}")
        self.drive.do("restart")
        return True

    def draw(self, window: Window) -> None:
        place, panel = split(window)
        drive, px = self.drive, window.px
        draw_picture(window, drive, place, drive.driver.over.capitalize() or BANNERS.get(drive.phase, ""))
        x, _, width, _ = panel
        top = draw_buttons(window, panel, self.buttons())
        kept = (
            f"{self.episodes} saved, {counted(len(self.saved), 'step')}, in {self.out}"
            if self.saved
            else "Nothing saved yet"
        )
        words, ink = (self.said.words, self.said.ink) if self.said else (kept, MUTED)
        lines, tall = window.measure_paragraph(words, width, 14)[1], facts_height(window)
        window.paragraph(words, (x, top - px(16) - lines), width, 14, ink)
        facts = (x, top - px(32) - lines - tall, width, tall)
        draw_facts(window, facts, facts_of(drive))
        draw_panel(window, drive, panel, f"Driving {drive.driver.env_id}", self.words(), facts[1] - px(12))

    def words(self) -> str:
        drive = self.drive
        if drive.problem:
            return drive.problem
        return {
            READY: "Press one of these keys to begin.",
            DRIVING: "Drive. Enter saves the episode up to here.",
            PAUSED: "Paused. Any of these keys goes on.",
            OVER: f"{drive.driver.over.capitalize()}. Enter saves it, {drive.key_of('restart')} drives again without.",
        }[drive.phase]

    def buttons(self) -> list[list[DriveButton]]:
        some = bool(self.drive.driver.steps)
        own = [
            DriveButton("Save", "save", "Enter", some, mix(GOOD, (0, 0, 0), 0.55)),
            DriveButton("Restart", "restart", self.drive.key_of("restart"), some),
            DriveButton("Save, leave" if some else "Leave", "leave", "Esc"),
        ]
        return [own, common_buttons(self.drive)]


BANNERS = {READY: "Ready", PAUSED: "Paused"}


# -- corrections


class CorrectionPage:
    """Drives the steps of one clip, then shows them again and again until the person accepts, retries or cancels."""

    keys: Mapping[str, str] = {"return": "accept", "escape": "leave"}

    def __init__(self, drive: Drive, original: Array | None) -> None:
        self.drive, self.original = drive, original
        self.accepted: Segments | None = None
        self.left, self.closed = False, False
        self.clock = 0.0  # s, of what is shown again

    def do(self, command: str) -> None:
        if command in ("leave", "close"):
            self.left, self.closed = True, command == "close"
        elif command == "accept" and self.drive.whole:
            self.accepted, self.left = self.drive.driver.segment(), True
        else:
            self.drive.do(command)

    def advance(self, seconds: float) -> None:
        self.drive.advance(seconds)
        self.clock += seconds

    def draw(self, window: Window) -> None:
        place, panel = split(window)
        drive, px = self.drive, window.px
        again = self.again() if drive.phase == OVER else None
        draw_picture(window, drive, place, BANNERS.get(drive.phase, ""), again)
        x, _, width, _ = panel
        top = draw_buttons(window, panel, self.buttons())
        facts = (x, top - px(18) - facts_height(window), width, facts_height(window))
        draw_facts(window, facts, facts_of(drive))
        bar = (x, facts[1] - px(20), width, px(6))
        window.box(bar, mix(MUTED, (0, 0, 0), 0.6), radius=3)
        share = len(drive.driver.steps) / (drive.limit or 1)
        if share:
            window.box((x, bar[1], width * share, px(6)), SIDE_A, radius=3)
        draw_panel(window, drive, panel, "Do it better", self.words(), bar[1] - px(12))
        if self.original is not None:
            self.draw_original(window, place, self.original)

    def draw_original(self, window: Window, place: Rect, frames: Array) -> None:
        """Draws what is to be done better, small in a corner of the picture."""
        x, y, width, _ = place
        side, edge = width * 0.3, window.px(12)
        rate = self.drive.rate * len(frames) / (self.drive.limit or 1)
        words = "what the policy did" if window.measure("what the policy did", 13)[0] <= side else "the policy"
        head = max(window.px(26), window.measure(words, 13)[1] + 2)
        corner = (x + edge, y + edge + head, side, side)
        window.box((corner[0] - 2, y + edge, side + 4, side + head + 2), BACKGROUND, radius=8)
        window.text(words, (x + edge + side / 2, corner[1] - head / 2), 13, align="center", middle=True)
        window.picture(frames[int(self.clock * rate) % len(frames)], corner)

    def again(self) -> Array:
        """Returns the frame of what was done that is due; the last one stays for a moment."""
        frames = self.drive.frames or [self.drive.picture]
        seconds = len(self.drive.driver.steps) / self.drive.rate / SPEEDS[self.drive.speed]
        share = (self.clock % (seconds + 0.5)) / max(seconds, 1e-6)
        return frames[min(int(share * len(frames)), len(frames) - 1)]

    def words(self) -> str:
        drive, restart = self.drive, self.drive.key_of("restart")
        if drive.phase == OVER and not drive.whole:
            ended = drive.problem or drive.driver.over
            return f"It ended after {len(drive.driver.steps)} of {drive.limit} steps: {ended}. {restart} tries again."
        return {
            READY: "Press one of these keys to begin; it ends by itself after "
            f"{(drive.limit or 0) / drive.rate:.1f} s.",
            DRIVING: "Drive.",
            PAUSED: "Paused. Any of these keys goes on.",
            OVER: f"This is what you did. Enter takes it, {restart} tries again, Esc leaves without.",
        }[drive.phase]

    def buttons(self) -> list[list[DriveButton]]:
        drive = self.drive
        own = [
            DriveButton("Take it", "accept", "Enter", drive.whole, mix(GOOD, (0, 0, 0), 0.55)),
            DriveButton("Again", "restart", drive.key_of("restart"), bool(drive.driver.steps)),
            DriveButton("Cancel", "leave", "Esc"),
        ]
        return [own, common_buttons(drive)]
