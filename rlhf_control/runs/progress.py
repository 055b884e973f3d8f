"""One live line about a long run on a terminal. Piped, nothing; or with RLHF_CONTROL_PROGRESS=N a plain line every N
seconds."""

import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rlhf_control.wording import counted

SHOWN: tuple[tuple[str, Callable[[float], str]], ...] = (  # metric, its words, in the order shown
    ("done", "{:.0f} done".format),
    ("running", "{:.0f} running".format),
    ("failed", "{:.0f} failed".format),
    ("steps_per_second", "{:,.0f} steps/s".format),
    ("labels", lambda n: counted(round(n), "label")),
    ("reward/heldout_accuracy", "held-out {:.2f}".format),
    ("kl_start", "KL {:.2f}".format),
    ("score", "score {:.2f}".format),
    ("env_return", "return {:.0f}".format),
)


class ProgressLine:
    """Shows progress: a context manager; `show(row)` after every iteration, with the row that goes to the metrics."""

    def __init__(self, title: str, total_steps: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:3.0f}%"),
                   TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[line]}"))  # fmt: skip
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(title, total=total_steps, line="starting")
        self._total_steps = total_steps
        self._plain_seconds = 0.0 if console.is_terminal else float(os.environ.get("RLHF_CONTROL_PROGRESS") or 0)
        self._next_plain = time.monotonic() + self._plain_seconds
        self._recent: deque[tuple[float, int]] = deque(
            maxlen=30
        )  # (time, env_steps) of rows: rounds with a fit are slow
        self._latest: dict[str, float] = {}

    def __enter__(self) -> "ProgressLine":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, row: Mapping[str, Any]) -> None:
        self._latest.update({k: v for k, v in row.items() if v is not None})
        now, steps = time.monotonic(), row["env_steps"]
        self._recent.append((now, steps))
        if len(self._recent) > 1:
            then, before = self._recent[0]
            self._latest["steps_per_second"] = (steps - before) / max(now - then, 1e-9)
        line = "  ".join(words(self._latest[key]) for key, words in SHOWN if key in self._latest)
        self._progress.update(self._task, completed=steps, line=line)
        if self._plain_seconds and now > self._next_plain:
            speed = self._latest["steps_per_second"]
            eta = f"ETA {seconds_text((self._total_steps - steps) / speed)}  " if speed else ""  # nothing moves yet
            print(f"{steps / self._total_steps:4.0%}  {eta}{line}", file=sys.stderr, flush=True)
            self._next_plain = now + self._plain_seconds

    def note(self, text: str) -> None:
        """Shows this instead of the figures, until the next row."""
        self._progress.update(self._task, line=escape(text))


def say(text: str) -> None:
    """Writes a line for a person on a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


@functools.cache
def say_once(text: str) -> None:
    """Says the same on stderr wherever that goes, but only the first time."""
    print(text, file=sys.stderr)


def seconds_text(seconds: float) -> str:
    """Says seconds in words: 72.3 -> "1 min 12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
