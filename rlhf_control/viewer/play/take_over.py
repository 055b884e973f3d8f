"""`rlhf-control play RUN`: the policy acts, and the person takes over whenever it goes wrong. What they do stands above
what the policy would have done there, as a correction in the run's store.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from rlhf_control.data import Array
from rlhf_control.errors import Stopped, UserError
from rlhf_control.feedback.corrections import store_correction
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.simulation.simulator import check_simulator, env_action
from rlhf_control.simulation.takeovers import LEAST, Pilot, corrections_in, stretches
from rlhf_control.viewer.kit.canvas import BACKGROUND, BAD, GOOD, MUTED, SIDE_A, SIDE_B, TEXT, Rect, mix
from rlhf_control.viewer.kit.window import Window, display_problem
from rlhf_control.viewer.play.drive import (
    DRIVING,
    OVER,
    PAUSED,
    READY,
    Drive,
    DriveButton,
    common_buttons,
    draw_buttons,
    draw_facts,
    draw_panel,
    facts_height,
    facts_of,
)
from rlhf_control.viewer.play.driver import Driver
from rlhf_control.viewer.play.play import Said, drive_in_window
from rlhf_control.wording import counted


@environments_closed()
def take_over(pilot: Pilot, store: FeedbackStore, annotator: str, *, seed: int = 0, rate: float | None = None) -> int:
    """Opens the window until the person leaves; prints what was kept."""
    if problem := display_problem():
        raise UserError(f"play needs a window, and {problem}; run it on a desktop or with ssh -X")
    check_simulator(pilot.env_id, pilot.env)
    drive = TakeOverDrive(Driver(pilot.env_id, pilot.env, seed=seed), pilot, rate=rate)
    page = TakeOverPage(drive, store, annotator)
    caught = drive_in_window(f"take over in {pilot.env_id}", page, page.settle)
    kept = f"{counted(len(page.kept), 'correction')} in {store.path}" if page.kept else "no correction was kept"
    if caught:
        raise Stopped(caught[0], kept)
    print(kept)
    if page.problem:
        print(f"the last stretch was not kept: {page.problem}", file=sys.stderr)
    return 0


class TakeOverDrive(Drive):
    """Steps the environment by the policy, without noise, until the person takes over."""

    def __init__(self, driver: Driver, pilot: Pilot, *, rate: float | None = None) -> None:
        self.pilot, self.taken = pilot, False
        self.second: Array | None = None  # the picture of the next camera
        super().__init__(driver, rate=rate)
        keys = driver.controls.keys
        switch = next(key for key in ("space", "tab", "return") if key not in keys)
        back = next(key for key in ("x", "z", "delete") if key not in keys)
        self.commands |= {switch: "switch", back: "take back"}

    def restart(self) -> None:
        self.taken = False
        super().restart()

    def press(self, key: str) -> str:
        """Takes in a key that went down: one that drives takes over at once."""
        self.taken = self.taken or (key in self.driver.controls.keys and self.phase in (DRIVING, PAUSED))
        return super().press(key)

    def advance(self, seconds: float) -> None:
        self.taken = self.taken or (self.phase == DRIVING and self.steered())
        super().advance(seconds)

    def move(self) -> None:
        if self.taken:
            super().move()
            return
        driver, spaces = self.driver, self.pilot.spaces
        executed = spaces.execute(self.pilot.act(driver.obs[None], None))[0]
        driver.act(env_action(driver.env.action_space, spaces, executed), executed, taken=False)

    def drawn(self, further: int = 0) -> Array:
        """Returns the picture of the camera, and has that of the next one beside it, if there is one that shows
        something else: without OpenGL all draw the same."""
        first = super().drawn(further)
        second = super().drawn(further + 1) if self.cameras > 1 else first
        self.second = None if np.array_equal(first, second) else second
        return first


class TakeOverPage:
    """Flies episode after episode; every stretch that is given back is on the disk at once."""

    keys: Mapping[str, str] = {"escape": "leave"}

    def __init__(self, drive: TakeOverDrive, store: FeedbackStore, annotator: str) -> None:
        self.drive, self.store, self.annotator = drive, store, annotator
        self.kept: list[str] = []  # keys of the corrections, in the order in which they were kept
        self.groups: list[int] = []  # how many of them each stretch gave
        self.left = False
        self.problem = ""  # why the last stretch was not kept
        self.said = Said()
        self._judged = 0  # steps of the episode whose stretches have been kept

    def do(self, command: str) -> None:
        drive = self.drive
        if command in ("leave", "close"):
            self.settle()
            self.left = True
        elif command == "switch":
            self.switch()
        elif command == "take back":
            self.take_back()
        elif command == "restart":
            self.settle()
            drive.restart()
            self._judged = 0
        else:
            drive.do(command)

    def switch(self) -> None:
        """Begins, takes over, or gives back."""
        drive = self.drive
        if drive.phase in (READY, PAUSED):
            drive.phase = DRIVING
        elif drive.phase == OVER:
            self.do("restart")
            drive.phase = DRIVING
        elif drive.taken:
            self.settle()
        else:
            drive.taken = True

    def settle(self) -> None:
        """Gives control back, and keeps what was taken over since the last time."""
        self.drive.taken = False
        steps = self.drive.driver.steps
        taken = [step.taken and i >= self._judged for i, step in enumerate(steps)]
        self._judged = len(steps)
        if sum(taken) < LEAST:
            return
        keys: list[str] = []
        try:
            for original, improved in corrections_in(self.drive.driver.segment(), taken, self.drive.pilot):
                keys.append(store_correction(self.store, original, improved, self.annotator))
        except UserError as error:
            self.problem = str(error)
            self.said.say(str(error), BAD, 3600.0)
        self.kept += keys
        self.groups += [len(keys)] * bool(keys)
        if keys:
            seconds = sum(taken) / self.drive.rate
            self.said.say(f"Kept: your {seconds:.1f} s stand above what the policy would have done")

    def take_back(self) -> None:
        """Takes the corrections of the last stretch back."""
        if not self.groups:
            self.said.say("Nothing to take back yet", MUTED)
            return
        with suppress(UserError):  # somebody did so elsewhere
            for key in self.kept[-self.groups[-1] :]:
                self.store.undo(key, self.annotator)
        del self.kept[-self.groups.pop() :]
        self.said.say("The last stretch is taken back", MUTED)

    def advance(self, seconds: float) -> None:
        for command in self.drive.gamepad.commands():
            self.do(command)
        before = self.drive.phase
        self.drive.advance(seconds)
        if self.drive.phase == OVER and before != OVER:
            self.settle()

    # -- drawing

    def draw(self, window: Window) -> None:
        drive, px = self.drive, window.px
        pictures = [drive.picture] if drive.second is None else [drive.picture, drive.second]
        places, panel = layout(window, len(pictures))
        for picture, place in zip(pictures, places, strict=True):
            color = SIDE_A if drive.taken else mix(BACKGROUND, MUTED, 0.5)
            x, y, side, _ = place
            window.box((x - px(4), y - px(4), side + px(8), side + px(8)), color, radius=14)
            window.picture(picture, place, radius=12, cache=False)
        first, last = places[0], places[-1]
        under = (first[0], first[1] + first[3] + px(18), last[0] + last[2] - first[0], px(64))
        self.draw_state(window, under)
        x, _, width, _ = panel
        top = draw_buttons(window, panel, self.buttons())
        words, ink = (self.said.words, self.said.ink) if self.said else (self.kept_words(), MUTED)
        lines, tall = window.measure_paragraph(words, width, 14)[1], facts_height(window)
        window.paragraph(words, (x, top - px(16) - lines), width, 14, ink)
        facts = (x, top - px(32) - lines - tall, width, tall)
        draw_facts(window, facts, [fact for fact in facts_of(drive) if fact[0] != "env reward"])
        draw_panel(window, drive, panel, "Take over", self.words(), facts[1] - px(12))

    def draw_state(self, window: Window, place: Rect) -> None:
        """Draws who acts, and the episode so far as a strip with what was taken over lit up."""
        drive, px = self.drive, window.px
        x, y, width, _ = place
        paused = {READY: "Ready", PAUSED: "Paused", OVER: drive.driver.over.capitalize() or "It broke down"}
        words, ink = ("You are in control", SIDE_A) if drive.taken else ("The policy acts", TEXT)
        window.text(paused.get(drive.phase, words), (x, y + px(12)), 22, ink, bold=True, middle=True)
        steps, bar = drive.driver.steps, (x, y + px(40), width, px(8))
        window.box(bar, mix(MUTED, (0, 0, 0), 0.7), radius=4)
        shown = max(len(steps), round(4 * drive.rate))
        window.box((x, bar[1], width * len(steps) / shown, bar[3]), mix(MUTED, (0, 0, 0), 0.3), radius=4)
        for stretch in stretches([step.taken for step in steps]):
            start, wide = width * stretch.start / shown, max(px(3), width * len(stretch) / shown)
            window.box((x + start, bar[1], wide, bar[3]), SIDE_A, radius=4)

    def kept_words(self) -> str:
        if not self.groups:
            return "Nothing kept yet"
        pieces = counted(len(self.kept), "correction")
        return f"{counted(len(self.groups), 'stretch', 'stretches')} kept, {pieces}, in {self.store.path}"

    def words(self) -> str:
        drive, switch = self.drive, self.drive.key_of("switch")
        if drive.problem:
            return drive.problem
        return {
            READY: f"{switch} lets the policy act. Where it goes wrong, take over: by {switch} again or, at once, by "
            "any of these keys or a gamepad.",
            DRIVING: f"{switch} gives control back." if drive.taken else f"{switch} or any of these keys takes over.",
            PAUSED: f"Paused. {switch} goes on.",
            OVER: f"{drive.driver.over.capitalize()}. {switch} begins the next episode.",
        }[drive.phase]

    def buttons(self) -> list[list[DriveButton]]:
        drive = self.drive
        label = "Give back" if drive.taken else "Take over" if drive.phase == DRIVING else "Go"
        own = [
            DriveButton(
                label, "switch", drive.key_of("switch"), True, mix(GOOD if drive.taken else SIDE_B, (0, 0, 0), 0.55)
            ),
            DriveButton("Take back", "take back", drive.key_of("take back"), bool(self.groups)),
            DriveButton("Leave", "leave", "Esc"),
        ]
        following = DriveButton("Next", "restart", drive.key_of("restart"))
        pause, slower, faster, *camera = common_buttons(drive)
        return [own, [following, pause], [slower, faster, *camera]]


def layout(window: Window, pictures: int) -> tuple[list[Rect], Rect]:
    """Returns the places of the pictures, side by side, and of the panel on their right."""
    width, height = window.size
    gap, below = window.px(28), window.px(90)
    least = 33 * window.measure("n", 15)[0]  # of the panel
    side = min(height - 2 * gap - below, (width - least - (pictures + 2) * gap) / pictures)
    taken = pictures * (side + gap)
    top = gap + max(0.0, (height - 2 * gap - below - side) / 3)
    places = [(gap + i * (side + gap), top, side, side) for i in range(pictures)]
    return places, (gap + taken, gap, width - taken - 2 * gap, height - 2 * gap)
