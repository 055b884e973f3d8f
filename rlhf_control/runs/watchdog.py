"""Notices an environment that hangs: one call into it that does not come back.

A thread counts how long the main thread has been inside the same call. Beyond the limit, or PATIENCE after a SIGINT or
SIGTERM, it sends the main thread a signal, whose handler raises HungError where the environment hangs, in a sleep too.
An environment that is deaf to that, in native code or because it catches everything, is left with the process: what is
on the disk is whole at every moment. Only native code that keeps Python's lock stays unnoticed.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TICK = 0.5  # seconds; ticks are counted rather than a clock read, so that a stopped process grows no older
PATIENCE = 5.0  # seconds
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAKE = signal.SIGURG  # ignored by default, so that one too many does nothing


class HungError(BaseException):
    """Is raised inside the environment; no `except Exception` of its holds it up."""


class Watchdog:
    """Knows what the main thread is inside of, if anything, and for how long."""

    def __init__(self) -> None:
        self.limit = 300.0  # seconds for one call; 0: none
        self.inside: object | None = None  # its str is the place
        self.calls = 0
        self.hint = ""  # what to do about it
        self._suspect = -1
        self._why = ""
        self._main = threading.main_thread().ident

    def enter(self, place: object) -> None:
        if threading.get_ident() == self._main:
            self.calls += 1
            self.inside = place

    def leave(self) -> None:
        if threading.get_ident() == self._main:
            self.inside = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches what is called within, if this is the main thread and nobody watches yet."""
        if threading.get_ident() != self._main or self._suspect >= 0:
            yield
            return
        self._suspect = 0
        ends = os.pipe()
        for end in ends:
            os.set_blocking(end, False)
        handler = signal.signal(WAKE, self._raise)
        wakeup = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)  # native code does not hold it up
        thread = threading.Thread(target=self._watch, args=(ends[0],), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(WAKE, handler)
            os.close(ends[1])  # which ends the thread
            thread.join()
            os.close(ends[0])
            self._suspect, self.inside, self.limit, self.hint = -1, None, 300.0, ""

    def _watch(self, signals: int) -> None:
        seen = ticks = ticks_asked = asked = 0
        woken = -1  # the tick at which the main thread was
        ready = select.poll()  # which, unlike select, takes descriptors beyond 1,023
        ready.register(signals, select.POLLIN)
        while True:
            if ready.poll(TICK * 1000):
                caught = os.read(signals, 100)
                if not caught:
                    return
                for signum in set(caught) & set(STOP_SIGNALS):
                    asked, ticks_asked = signum, ticks
                continue
            if self.inside is None or self.calls != seen:
                seen, ticks, ticks_asked, woken = self.calls, 0, 0, -1
                continue
            ticks += 1
            if woken >= 0:
                if (ticks - woken) * TICK >= PATIENCE:
                    self._end(asked)
            elif (asked and (ticks - ticks_asked) * TICK >= PATIENCE) or (self.limit and ticks * TICK >= self.limit):
                woken, self._suspect = ticks, seen
                self._why = f"no answer for {ticks * TICK:.0f} s"
                signal.pthread_kill(self._main or 0, WAKE)

    def _raise(self, signum: int, frame: object) -> None:
        if self.inside is not None and self.calls == self._suspect:
            raise HungError(self._why)

    def _end(self, asked: int) -> None:
        with suppress(Exception):
            text = f"\nrlhf-control: {self.inside}: {self._why}, and it is deaf to being interrupted; the process ends"
            print(text + self.hint, file=sys.stderr, flush=True)
        os._exit(128 + asked if asked else 2)


WATCHDOG = Watchdog()
