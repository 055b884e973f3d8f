"""The mechanics of a long run, kept out of the method: checkpoints, resuming, signals, metrics, progress."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from rlhf_control.errors import Stopped
from rlhf_control.nets import one_thread
from rlhf_control.progress import ProgressLine
from rlhf_control.runs import Run, deferred_signals


class Part(Protocol):
    """Something whose state belongs into a checkpoint."""

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Loop:
    """Yields (iteration, log) for the iterations still to do; what the body puts into `log` becomes a row of metrics.

    The parts are brought to where the newest checkpoint left them, if there is one, and saved every
    `checkpoint_seconds`, at the end, and on SIGINT or SIGTERM, which then raise Stopped. Torch works on one thread
    meanwhile.
    """

    def __init__(
        self,
        run: Run,
        parts: Mapping[str, Part],
        total_steps: int,
        steps: int,
        checkpoint_seconds: float,
        resumed: bool,
    ) -> None:
        self.run, self.parts = run, parts
        self.steps = steps  # of all environments, an iteration
        self.iterations = max(1, total_steps // steps)
        self.checkpoint_seconds = checkpoint_seconds
        self.first = 0
        self._stack = ExitStack()
        if resumed:
            self.first, state = run.load_checkpoint()
            for name, part in parts.items():
                part.load_state(state[name])
            run.rewind_metrics(self.first)

    def __enter__(self) -> "Loop":
        self._signals = self._stack.enter_context(deferred_signals())
        self._progress = self._stack.enter_context(ProgressLine(self.run.path.name, self.iterations * self.steps))
        self._stack.enter_context(one_thread())
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        saved = time.monotonic()
        if self.first == 0:
            self._save(0)
        for iteration in range(self.first, self.iterations):
            started = time.monotonic()
            log: dict[str, Any] = {"iteration": iteration, "env_steps": (iteration + 1) * self.steps}
            yield iteration, log
            log["steps_per_second"] = self.steps / (time.monotonic() - started)
            log["wall_seconds"] = self.run.wall_seconds()
            self.run.log(log)
            self._progress.show(log)
            last = iteration == self.iterations - 1
            if last or self._signals or time.monotonic() - saved > self.checkpoint_seconds:
                self._save(iteration + 1)
                saved = time.monotonic()
            if self._signals and not last:
                raise Stopped(self._signals[0], f"go on with `rlhf-control resume {self.run.path}`")

    def _save(self, iteration: int) -> None:
        self.run.save_checkpoint(iteration, {name: part.state() for name, part in self.parts.items()})
