"""The mechanics of a long run, kept out of the method: checkpoints, resuming, signals, metrics, progress."""

import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import CorruptFileError, Stopped, UserError
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.runs.resuming import check, record
from rlhf_control.runs.rows import rewind
from rlhf_control.runs.run import FAILED, Run, command_for
from rlhf_control.runs.trackers import check_tracker, tracked
from rlhf_control.runs.watchdog import WATCHDOG, HungError

CARRIES = "the environment has something that outlives its reset and cannot be put back; after a replay"


class Stateful(Protocol):
    """Says what a checkpoint needs of whatever has a state that belongs into it."""

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class MovedError(UserError):
    """Says that the run's folder was moved while the run was at work in it."""

    def __init__(self, before: Path, after: Path, what: str) -> None:
        super().__init__(
            f"{before} was moved to {after} while its run was at work, which {what} there: "
            f"{command_for(after, 'resume')}"
        )


class Loop:
    """Yields (iteration, log) for the iterations still to do; what the body puts into `log` becomes a row of metrics.

    Only one process at a time can have a Loop of a run. The parts are brought to where the newest checkpoint left them,
    if there is one, and saved every `checkpoint_seconds`, before the iterations in `save_before`, at the end, and on
    SIGINT or SIGTERM, which then raise Stopped. An iteration that takes long calls `stop_if_asked`; it is done again
    when the run is resumed.
    """

    def __init__(
        self, run: Run, parts: Mapping[str, Stateful], config: PretrainConfig | FinetuneConfig,
        *, save_before: Container[int] = (),
    ) -> None:  # fmt: skip
        self.run, self.parts, self.save_before = run, parts, save_before
        self.steps_per_iteration = config.ppo.num_envs * config.ppo.num_steps
        self.iterations = max(1, config.total_steps // self.steps_per_iteration)
        self.checkpoint_seconds = config.checkpoint_seconds
        self.before_iteration: list[Callable[[int], None]] = []  # called with its number
        self.halt: Exception | None = None  # set by the body: raised once this iteration is saved
        self._stack = ExitStack()
        self._config = config
        check_tracker(config.track)
        run.lock()
        self.first, state = run.load_checkpoint()
        check(run, state, config, run.amended)
        try:
            for name, part in parts.items() if state else ():
                part.load_state(state[name])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise CorruptFileError(f"the checkpoint of {run.path} is of another run or version ({error!r})") from error

    def __enter__(self) -> "Loop":
        self._stack.callback(self.run.unlock)
        (self.run.path / FAILED).unlink(missing_ok=True)
        rewind(self.run.metrics_path, self.first)
        self._tell_of_exactness()
        WATCHDOG.hint = f"; what is saved is whole, go on with `{command_for(self.run.path, 'resume')}`"
        self._signals = self._stack.enter_context(deferred_signals())
        total_steps = self.iterations * self.steps_per_iteration
        self._progress = self._stack.enter_context(ProgressLine(self.run.path.name, total_steps))
        self._track = self._stack.enter_context(tracked(self.run, self._config.track, asdict(self._config)))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._stack:
            if isinstance(error, UserError):
                with suppress(UserError, OSError):
                    (self.run.path / FAILED).write_text(f"{error}\n")
            if isinstance(error, UserError) and not isinstance(error, MovedError) and (before := self.run.follow()):
                raise MovedError(before, self.run.path, "goes on from its last checkpoint") from error
            if error is not None and isinstance(error.__cause__, HungError):
                text = f"{error}{WATCHDOG.hint}"
                raise (Stopped(self._signals[0], text) if self._signals else UserError(text)) from error.__cause__

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        saved = time.monotonic()
        if self.first == 0:  # from now on the run can be resumed, whatever happens
            self._save(0)
        for iteration in range(self.first, self.iterations):
            started = time.monotonic()
            for prepare in self.before_iteration:
                prepare(iteration)
            log: dict[str, Any] = {"iteration": iteration, "env_steps": (iteration + 1) * self.steps_per_iteration}
            yield iteration, log
            log["steps_per_second"] = self.steps_per_iteration / (time.monotonic() - started)
            log["wall_seconds"] = self.run.wall_seconds()
            if moved := self.run.follow():
                self.halt = MovedError(moved, self.run.path, "is saved")
            self.run.log(log)
            self._progress.show(log)
            self._track(log)
            due = iteration == self.iterations - 1 or iteration + 1 in self.save_before
            if due or self._signals or self.halt or time.monotonic() - saved > self.checkpoint_seconds:
                self._save(iteration + 1)
                saved = time.monotonic()
            if self.halt:
                raise self.halt
            self.stop_if_asked()

    def _tell_of_exactness(self) -> None:
        """Says and notes in the manifest, before training and whenever it goes on, if it cannot go on exactly."""
        envs: Any = self.parts.get("envs")
        if not hasattr(envs, "probe"):
            return
        manifest = self.run.read_json("manifest.json")
        if self.first == 0:
            differs = envs.probe()
            change: dict[str, Any] = {"resumes_inexactly": differs}
            text = f"if this run is stopped, it goes on, but not to the same numbers: {CARRIES}: {differs}"
        else:
            differs = envs.differs or manifest.get("resumes_inexactly", "")
            change = {"resumed_inexactly": [*manifest.get("resumed_inexactly", []), self.first]}
            begins = ", and new episodes begin" if envs.differs else ""
            text = f"this run goes on, but not to the numbers of one that never stopped{begins}: {CARRIES}: {differs}"
        if differs:
            print(f"rlhf-control: {text}", file=sys.stderr)
            self.run.write_json("manifest.json", {**manifest, **change})

    def note(self, text: str) -> None:
        """Says what this iteration is at, on the progress line."""
        self._progress.note(text)

    def stop_if_asked(self) -> None:
        """Raises Stopped if SIGINT or SIGTERM came."""
        if self._signals:
            raise Stopped(self._signals[0], f"go on with `{command_for(self.run.path, 'resume')}`")

    def _save(self, iteration: int) -> None:
        left = record(self.run, iteration, self._config)
        self.run.save_checkpoint(iteration, {name: part.state() for name, part in self.parts.items()} | {"left": left})
