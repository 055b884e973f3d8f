"""What is typed on a terminal, key by key; or line by line where the input is a file or a pipe."""

import os
import re
import select
import sys
import termios
import time
import tty
from contextlib import suppress
from typing import Any, TextIO

from rlhf_control.errors import UserError

LEFT, RIGHT, UP, DOWN, BACKSPACE, ESCAPE, ENTER = "left", "right", "up", "down", "backspace", "escape", "enter"
SEQUENCES = {
    "\x1b[D": LEFT, "\x1b[C": RIGHT, "\x1b[A": UP, "\x1b[B": DOWN, "\x1bOD": LEFT, "\x1bOC": RIGHT, "\x1bOA": UP,
    "\x1bOB": DOWN, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x1b": ESCAPE, "\r": ENTER, "\n": ENTER,
}  # fmt: skip
ESCAPED = re.compile(rb"\x1b(\[[0-9;]*[ -/]*[@-~]|O.)")  # ECMA-48: of a key that has no character
OTHER = "that key"  # one of those that mean nothing here, such as Delete
REST_SECONDS = 0.05  # within which what follows an Esc belongs to it


class Keyboard:
    """Makes single keys come, within a `with`, at once and without echo, if the input is a terminal; it is as before
    afterwards. Ctrl-C stays an interrupt. Raises UserError if there is no input."""

    def __init__(self, stream: TextIO | None = None) -> None:
        try:
            self._file = (stream or sys.stdin).fileno()
        except (OSError, ValueError, AttributeError):  # closed, or something else in its place
            raise UserError("there is no input to read answers from; run this on a terminal") from None
        self.single = os.isatty(self._file)  # keys, not lines
        self._before: list[Any] = []
        self._bytes, self.ended = b"", False

    def __enter__(self) -> "Keyboard":
        if self.single:
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file, termios.TCSANOW)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._file, termios.TCSANOW, self._before)

    def read(self, seconds: float) -> str | None:
        """Reads the next key by its name or character, in lower case, or the next line; None if there is none within so
        many seconds, or ever (`ended`)."""
        return self._key(seconds) if self.single else self._line(seconds)

    def forget(self, seconds: float = 0.0) -> bool:
        """Drops the keys that were typed so far and within so many seconds, before anybody can mean them; returns
        whether there were any. Lines, which nobody types by mistake, stay."""
        if not self.single:
            return False
        end = time.monotonic() + seconds
        while self._more(max(0.0, end - time.monotonic())):
            pass
        dropped, self._bytes = bool(self._bytes), b""
        return dropped

    def _key(self, seconds: float) -> str | None:
        if not self._bytes and not self._more(seconds):
            return None
        if self._bytes == b"\x1b":
            self._more(REST_SECONDS)
        sequence = ESCAPED.match(self._bytes)
        length = sequence.end() if sequence else 1
        start = self._bytes[:length].decode("latin-1")
        if sequence or start in SEQUENCES:
            self._bytes = self._bytes[length:]
            return SEQUENCES.get(start, OTHER)
        typed = self._bytes.decode("utf-8", "ignore")
        self._bytes = self._bytes[len(typed[:1].encode()) or 1 :]
        return typed[:1].lower()

    def _line(self, seconds: float) -> str | None:
        while b"\n" not in self._bytes:
            if self.ended or not self._more(seconds):
                line, self._bytes = (self._bytes, b"") if self.ended else (b"", self._bytes)
                return line.decode("utf-8", "replace").strip().lower() or None
        line, _, self._bytes = self._bytes.partition(b"\n")
        return line.decode("utf-8", "replace").strip().lower()

    def _more(self, seconds: float) -> bool:
        """Reads what there is, after waiting for it; returns whether anything came."""
        if self.ended or not select.select([self._file], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self._file, 4096)
        except OSError:  # the terminal was closed
            got = b""
        self.ended = not got
        self._bytes += got
        return bool(got)
