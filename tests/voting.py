"""A run to vote on, and a person at its window, for the tests of the window."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.config.commands import LabelConfig
from rlhf_control.data import COMPARISON, Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling.session import Question
from rlhf_control.runs.status import Status, write_status
from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.vote.controller import VotingController
from rlhf_control.viewer.vote.state import VotingState
from tests.fake_clips import FakeClips

KEYS = {"enter": "return", "esc": "escape"}


def a_status(state: str = "waiting", **changed: Any) -> Status:
    fields = {"state": state, "pid": os.getpid(), "updated": time.time(), "env_id": "HalfCheetah-v5", "wanted": 20}
    return Status(**{**fields, **changed})  # type: ignore[arg-type]


def make_run(
    folder: Path, n: int = 5, kind: str = COMPARISON, size: int = 2, status: Status | None = None, **options: Any
) -> Path:
    """A run's folder with n queries of `size` clips."""
    from tests.conftest import random_segments  # imports torch, which a process with a window alone must not wait for

    run = folder / "run"
    run.mkdir()
    rng = np.random.default_rng(0)
    queries = [Query(0, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]
    FeedbackStore(run / "labels.sqlite").ask(queries, **options)
    write_status(run, a_status() if status is None else status)
    return run


class Person:
    """Presses keys, clicks, and waits for the window."""

    def __init__(self, window: Window, controller: VotingController, clips: FakeClips) -> None:
        self.window, self.controller, self.clips = window, controller, clips

    @property
    def state(self) -> VotingState:
        return self.controller.state

    @property
    def question(self) -> Question:
        assert self.state.ballot is not None
        return self.state.ballot.question

    def press(self, name: str, *, shift: bool = False, ctrl: bool = False, text: str = "") -> None:
        """A key down and up, and one frame."""
        code = pygame.key.key_code(KEYS.get(name, name))
        mod = shift * pygame.KMOD_LSHIFT | ctrl * pygame.KMOD_LCTRL
        for kind in (pygame.KEYDOWN, pygame.KEYUP):
            pygame.event.post(pygame.event.Event(kind, key=code, mod=mod, unicode=text))
        self.controller.step()

    def vote(self, name: str, **options: Any) -> None:
        """Presses a key that answers, and waits until the answer is on the disk."""
        before = len(self.votes())
        self.press(name, **options)
        self.until(lambda: len(self.votes()) > before and not self.controller.worker.doing("vote"))

    def mouse(self, what: int, x: float, y: float) -> None:
        fields: dict[str, Any] = {"pos": (x, y), "button": 1}
        if what == pygame.MOUSEMOTION:
            fields |= {"rel": (0, 0), "buttons": (1, 0, 0)}
        pygame.event.post(pygame.event.Event(what, **fields))
        self.controller.step()

    def click(self, action: str) -> None:
        """In the middle of what has this action."""
        self.mouse(pygame.MOUSEMOTION, *self.place(action))
        self.mouse(pygame.MOUSEBUTTONDOWN, *self.place(action))
        self.mouse(pygame.MOUSEBUTTONUP, *self.place(action))

    def drag(self, action: str, x: float, y: float) -> None:
        start = self.place(action)
        self.mouse(pygame.MOUSEBUTTONDOWN, *start)
        for share in (0.3, 0.6, 1.0):
            self.mouse(pygame.MOUSEMOTION, start[0] + (x - start[0]) * share, start[1] + (y - start[1]) * share)
        self.mouse(pygame.MOUSEBUTTONUP, x, y)

    def place(self, action: str) -> tuple[float, float]:
        x, y, width, height = self.window.place_of(action)
        return x + width / 2, y + height / 2

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Frames until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it does not come"
            self.controller.step()
            self.window.tick()

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def ready(self) -> None:
        """Waits for a question with its clips on the screen, that can be answered."""
        self.until(lambda: self.state.answerable())

    def votes(self) -> list[Any]:
        return self.state.session.store.votes() if self.state.session is not None else []

    def shot(self, name: str) -> Path | None:
        """Keeps a picture where RLHF_CONTROL_SHOTS says."""
        folder = os.environ.get("RLHF_CONTROL_SHOTS")
        if folder:
            path = Path(folder) / f"{name}.png"
            self.window.screenshot(path)
            return path
        return None


@contextmanager
def at_the_window(
    run: Path, size: str = "1280x720", clips: FakeClips | None = None, **options: Any
) -> Iterator[Person]:
    """A person at the window of a run."""
    fake = clips or FakeClips()
    config = LabelConfig(str(run), annotator="me", size=size, seed=0, **options)
    with Window("test", config.width_and_height()) as window:
        pygame.event.clear()
        controller = VotingController(window, config, run, lambda *_: fake)
        try:
            yield Person(window, controller, fake)
        finally:
            controller.close()
