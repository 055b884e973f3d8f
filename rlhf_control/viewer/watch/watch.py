"""`rlhf-control watch RUN`: any question of a run with its clips, its votes, and the reward that the model predicts
along them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rlhf_control.config.commands import WatchConfig
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import EARLY_END, Asked
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rendering.cache import ClipCache, clip_size
from rlhf_control.runs.status import Status, read_status, trusted_environment
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer, Clips
from rlhf_control.viewer.kit.playback import Playback
from rlhf_control.viewer.kit.window import Closed, Event, Key, Mouse, Resized, Window, display_problem
from rlhf_control.viewer.kit.worker import Worker
from rlhf_control.viewer.vote.keys import SIGNS, key_of
from rlhf_control.viewer.vote.waiting_pages import draw_help
from rlhf_control.viewer.watch.history import History, Told, read_history, stamp, told
from rlhf_control.viewer.watch.page import WatchPage, cells, draw_page
from rlhf_control.viewer.watch.predicted_rewards import Predictor

LOOK_SECONDS = 1.0  # between two looks for new questions and votes
PREDICT_SECONDS = 15.0  # between two attempts to predict what is missing
KEYS = {
    "left": "previous", "right": "next", "up": "back ten", "down": "on ten", "page up": "back ten",
    "page down": "on ten", "home": "first", "end": "last", "space": "pause", "r": "restart", ",": "back",
    ".": "forward", "[": "slower", "]": "faster", "c": "camera", "t": "env reward", "p": "predict",
    "return": "go", "escape": "leave", "backspace": "rub out", "h": "help", "?": "help", "f1": "help",
}  # fmt: skip
HELP = (
    ("← and →", "the question before, the next one"),
    ("↑ and ↓", "ten questions back, ten on"),
    ("Home and End", "the first question, the last one"),
    ("a number, Enter", "the question of that number"),
    ("Space", "pause and go on"),
    ("R", "from the start"),
    (", and .", "one frame back, one forward"),
    ("[ and ]", "slower, faster"),
    ("C", "another camera"),
    ("T", "the environment's own reward as well, in grey"),
    ("P", "ask the newest reward model"),
    ("Esc", "leave"),
)
MOUSE = "Everything can be clicked on as well: a clip to pause, its curve to seek."
MOVES = {"previous": -1, "next": 1, "back ten": -10, "on ten": 10}


def watch(config: WatchConfig) -> int:
    """Opens the window until the person leaves."""
    if problem := display_problem():
        hint = "run it on a desktop or with ssh -X; `rlhf-control labels` prints what is known of the votes"
        raise UserError(f"watch needs a window, and {problem}; {hint}")
    run = Path(config.run)
    store = FeedbackStore(run / "labels.sqlite" if run.is_dir() else run.resolve(), create=False)
    run = store.path.parent
    status = trusted_environment(run, read_status(run), config.env_id)
    if status is None:
        raise UserError(f"{run} does not say what environment its clips are of (no status.json, no manifest.json)")
    history = read_history(store)
    place = history.find(config.query)
    with (
        Window(f"watch {run.name}") as window,
        ClipCache(run, status.env_id, status.env) as clips,
        Predictor(run) as predictor,
    ):
        room = Room(window, store, history, clips, status, predictor if config.reward else None)
        room.go(place)
        try:
            while room.step():
                window.tick()
        finally:
            room.close()
    return 0


class Room:
    """Lets a person look at questions. `step` is one frame."""

    def __init__(
        self, window: Window, store: FeedbackStore, history: History, clips: Clips, status: Status,
        predictor: Predictor | None,
    ) -> None:  # fmt: skip
        self.window, self.store, self.history, self.status, self.predictor = window, store, history, status, predictor
        self.buffer, self.playback, self.worker = ClipBuffer(clips), Playback(), Worker(window.wake)
        self.place, self.typed, self.env_reward, self.camera, self.notice = 0, "", False, 0, ""
        self.segments: dict[str, Segments] = {}  # of the question on the screen, by digest
        self.lines: list[Told] = []
        self.left = self.help = False
        self._stamp = stamp(store)
        self._looked = self._predicted = self._before = time.monotonic()
        self._tried: set[str] = set()  # clips that a prediction was asked for
        self._drawn: object = None

    def close(self) -> None:
        self.worker.close(5.0)

    @property
    def asked(self) -> Asked | None:
        return self.history.asked[self.place] if self.history.asked else None

    def step(self) -> bool:
        """Does one frame; returns whether to go on."""
        for event in self.window.events():
            self.handle(event)
        now = time.monotonic()
        self.playback.advance(now - self._before)
        self._before = now
        self._look(now)
        self._predict(now)
        self._want()
        self.paint()
        return not self.left

    # -- what the person does

    def handle(self, event: Event) -> None:
        if isinstance(event, Closed):
            self.left = True
        elif isinstance(event, Resized):
            self._drawn = None
        elif self.help and (isinstance(event, Key) or (isinstance(event, Mouse) and event.what == "down")):
            self.help = False
        elif isinstance(event, Key):
            if event.name.isdecimal() and event.text not in SIGNS and len(self.typed) < 7:
                self.typed += event.name
            else:
                self.do(KEYS.get(key_of(event), ""))
        elif isinstance(event, Mouse) and event.what == "down" and event.button == 1:
            self.do(self.window.hit(event.x, event.y), event.x)

    def do(self, action: str, x: float = 0.0) -> None:
        frames = self.frames
        if action in MOVES:
            self.go(self.place + MOVES[action])
        elif action in ("first", "last"):
            self.go(0 if action == "first" else len(self.history.asked) - 1)
        elif action == "go":
            self._go_to_typed()
        elif action == "rub out":
            self.typed = self.typed[:-1]
        elif action == "leave":
            self.left, self.typed = not self.typed, ""
        elif action == "pause":
            self.playback.paused = not self.playback.paused
        elif action == "restart":
            self.playback.restart()
        elif action in ("back", "forward"):
            self.playback.step(1 if action == "forward" else -1, frames)
        elif action in ("slower", "faster"):
            self.playback.faster(1 if action == "faster" else -1)
        elif action == "env reward":
            self.env_reward = not self.env_reward
        elif action == "help":
            self.help = True
        elif action == "predict" and self.predictor is not None:
            self.predictor.start()
        elif action == "camera":
            self.camera = (self.camera + 1) % max(1, len(self.cameras))
        elif action.startswith("seek "):
            left, _, width, _ = cells(self.window, len(self.digests))[int(action.split()[1])].curve
            self.playback.seek((x - left) / width, frames)

    def go(self, place: int) -> None:
        """Goes to the question at this place, or the nearest there is."""
        self.place = min(max(place, 0), max(0, len(self.history.asked) - 1))
        self.notice = ""
        self.playback.restart()
        self._open()

    def _go_to_typed(self) -> None:
        wanted, self.typed = self.typed, ""
        if not wanted:
            return
        try:
            self.go(self.history.find(wanted))
        except UserError as error:
            self.notice = str(error)

    # -- what there is

    @property
    def digests(self) -> tuple[str, ...]:
        """Returns the digests of the clips on the screen."""
        return self.asked.clips if self.asked is not None else ()

    @property
    def cameras(self) -> list[str]:
        return self.buffer.clips.cameras()

    @property
    def frames(self) -> int:
        """Counts the frames of the longest clip."""
        drawn = [self.buffer.frames(digest) for digest in self.digests]
        lengths = [len(frames) for frames in drawn if frames is not None]
        return max(lengths or [len(clip) for clip in self.segments.values()] or [1])

    def _open(self) -> None:
        """Reads the clips and votes of the question."""
        asked = self.asked
        self._drawn = None
        if asked is None:
            return
        self.lines = told(asked, self.history.votes.get(asked.key, []))
        try:
            self.segments = self.store.segments(asked.clips)
        except UserError as error:
            self.segments, self.notice = {}, str(error)
        steps = max((len(clip) for clip in self.segments.values()), default=1)
        self.playback.length = steps * self.status.step_seconds

    def _look(self, now: float) -> None:
        """Takes in new questions and votes."""
        for result in self.worker.results():
            if isinstance(result.value, History):
                self.history = result.value
                self._open()
            elif result.error is not None:
                self.notice = str(result.error)
        if now - self._looked > LOOK_SECONDS and not self.worker.doing("history"):
            self._looked, now_stamp = now, stamp(self.store)
            if now_stamp != self._stamp:
                self._stamp = now_stamp
                self.worker.do("history", read_history, self.store)

    def _predict(self, now: float) -> None:
        """Asks the model about clips of which nothing is known yet."""
        if self.predictor is None:
            return
        if self.predictor.poll():
            self._drawn = None
        missing = {digest for digest in self.digests if self.predictor.get(digest) is None}
        due = now - self._predicted > PREDICT_SECONDS or not self._tried
        if missing and due and not self.predictor.busy:
            self._predicted, self._tried = now, missing
            self.predictor.start()

    def _want(self) -> None:
        """Has the clips of this question drawn, then its neighbours'."""
        around = [self.place, self.place + 1, self.place - 1, self.place + 2]
        near = [self.history.asked[i] for i in around if 0 <= i < len(self.history.asked)]
        sides = [cell.picture for cell in cells(self.window, len(self.digests))]
        if sides:
            size = clip_size(round(sides[0][2]), round(sides[0][3]))
            self.buffer.want([digest for asked in near for digest in asked.clips], size, self.camera)

    # -- the page

    def paint(self) -> None:
        """Draws the page if it does not look as it did."""
        page = self.page()
        appearance = (page, self.window.hit(*self.window.mouse), self.window.size, self.help)
        if appearance == self._drawn and not self.window.stale:
            return
        self.window.clear()
        predicted, given = curves(self.predicted, self.digests), curves(self.given, self.digests)
        draw_page(self.window, page, self.pictures(), predicted, given)
        if self.help:
            draw_help(self.window, HELP, MOUSE)
        self.window.show_hand()
        self.window.present()
        self._drawn = appearance

    def page(self) -> WatchPage:
        digests = self.digests
        drawn = [self.buffer.frames(digest) for digest in digests]
        names, longest = self.cameras, self.frames
        shown = [None if f is None else due(f, self.playback, self.asked, longest) for f in drawn]
        of_ends = None not in shown and self.asked is not None and self.asked.strategy == EARLY_END
        return WatchPage(
            run=self.store.path.parent.name,
            asked=self.asked,
            number=self.place + 1,
            of=len(self.history.asked),
            typed=self.typed,
            votes=tuple(self.lines),
            frames=tuple(shown),
            over=tuple(of_ends and t is not None and self.playback.frame(longest) > t for t in shown),
            share=min(1.0, self.playback.at / self.playback.length),
            paused=self.playback.paused,
            speed=self.playback.speed,
            camera=names[self.camera % len(names)] if len(names) > 1 else "",
            env_reward=self.env_reward,
            prediction=words_on_prediction(self.predictor, digests),
            problem=self.buffer.problem(digests),
            notice=self.notice or self.buffer.clips.error(),
            steps=tuple(len(self.segments[digest]) if digest in self.segments else 0 for digest in digests),
            model=words_on_model(self.predictor),
        )

    def pictures(self) -> list[Array | None]:
        """Returns the frame of each clip that is due."""
        drawn = [self.buffer.frames(digest) for digest in self.digests]
        return [None if f is None else f[due(f, self.playback, self.asked, self.frames)] for f in drawn]

    def predicted(self, digest: str) -> Array | None:
        return None if self.predictor is None else self.predictor.get(digest)

    def given(self, digest: str) -> Array | None:
        """Returns the environment's reward, while it is to be seen."""
        clip = self.segments.get(digest)
        if not self.env_reward or clip is None or not np.isfinite(clip.env_reward).all():
            return None
        return clip.env_reward


def curves(of: Callable[[str], Array | None], digests: Sequence[str]) -> list[Array | None]:
    """Returns the curve (L,) of each clip, where there is one."""
    return [of(digest) for digest in digests]


def due(clip: Array, playback: Playback, asked: Asked | None, longest: int) -> int:
    """Tells which frame of a clip (T, ...) is shown. One that an end cuts short, where that is asked about, stands at
    its end until the `longest` is over."""
    of_ends = asked is not None and asked.strategy == EARLY_END
    return min(len(clip) - 1, playback.frame(longest if of_ends else len(clip)))


def words_on_prediction(predictor: Predictor | None, digests: Sequence[str]) -> str:
    """Says why there is no curve of a clip; empty if there is one of each."""
    if predictor is None:
        return "not asked for (--reward)"
    if all(predictor.get(digest) is not None for digest in digests):
        return ""
    return predictor.error or "asking the model"


def words_on_model(predictor: Predictor | None) -> str:
    """Tells which reward model it is."""
    if predictor is None:
        return ""
    known = predictor.known
    return "asking the model" if predictor.busy else f"of iteration {known.checkpoint:,}" if known is not None else ""
