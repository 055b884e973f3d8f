"""A person at a window: real key events, each posted when it is due."""

import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import time
from collections.abc import Callable, Iterator
from typing import Any

import pygame
import pytest

from rlhf_control.viewer.kit.window import Window

Moment = Callable[[], bool]


def post(name: str, up: bool = False) -> None:
    """A key goes down, or up."""
    code = pygame.key.key_code(name)
    unicode = name if len(name) == 1 else ""
    kind = pygame.KEYUP if up else pygame.KEYDOWN
    pygame.event.post(pygame.event.Event(kind, key=code, mod=0, unicode=unicode, scancode=0))


def tap(name: str) -> None:
    post(name)
    post(name, up=True)


def after(seconds: float) -> Moment:
    """So long after the first time that it is asked."""
    started: list[float] = []

    def due() -> bool:
        started.extend([time.monotonic()] * (not started))
        return time.monotonic() - started[0] >= seconds

    return due


def play_script(monkeypatch: pytest.MonkeyPatch, script: Iterator[Any], seconds: float = 30.0) -> None:
    """At the end of every frame goes on with `script`, a generator, which yields whenever it wants the next frame; the
    window is closed when it ends, and the test fails if that takes too long."""
    tick, started, ended = Window.tick, time.monotonic(), False

    def go_on(self: Window) -> None:
        nonlocal ended
        tick(self)
        assert time.monotonic() - started < seconds, "the script does not come to its end"
        if not ended and next(script, "the end") == "the end":
            ended = True
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    monkeypatch.setattr(Window, "tick", go_on)
