"""One thread for what waits for the disk, so that the window never does."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    name: str
    value: Any  # what the work returned
    error: Exception | None  # or raised


class Worker:
    """Does one piece of work after the other, in order. `wake` is called, in the thread, after each."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._todo: queue.SimpleQueue[tuple[str, Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._open: dict[str, int] = {}  # pieces of work by name, whose result was not fetched
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def do(self, name: str, work: Callable[..., Any], *arguments: Any) -> None:
        self._open[name] = self._open.get(name, 0) + 1
        self._todo.put((name, work, arguments))

    def doing(self, *names: str) -> bool:
        """Tells whether work of one of these names is not done, or its result was not fetched."""
        return any(self._open.get(name) for name in names)

    def results(self) -> list[Result]:
        """Returns what was done since the last call."""
        found = []
        while not self._done.empty():
            found.append(self._done.get())
            self._open[found[-1].name] -= 1
        return found

    def close(self, seconds: float) -> bool:
        """Waits until all is done, but no longer than this; returns whether it is. Takes no work afterwards."""
        self._todo.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            name, work, arguments = job
            value, problem = None, None
            try:
                value = work(*arguments)
            except Exception as error:  # told to whoever fetches the result
                problem = error
            self._done.put(Result(name, value, problem))
            self._wake()
