"""A run's folder.

runs/NAME/
  manifest.json      the command ("verb"), versions, git commit, seed, threads, when
  config.json        the whole config, from which `resume` starts again
  metrics.jsonl      one row an iteration: env_steps, wall_seconds and what the parts reported
  checkpoints/       sealed .npz files named by iteration; the newest whole one counts
  pretrained.npz     what it was started from, by value; so are cloned.npz, demonstrations.npz and gold.npz
  run.lock           empty; locked by the process that works on the run
  policy.npz         the policy at the end (and in checkpoints/, all along)
"""

import dataclasses
import fcntl
import json
import os
import shlex
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.checkpoints import checkpoint_path, checkpoints_of, newest
from rlhf_control.runs.files import ForeignFileError, open_own, read_own, save_state, sync, write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.rows import append_row, last_row, read_rows

KEEP_CHECKPOINTS = 2
LOCK = "run.lock"
FAILED = "failed.txt"  # why; there until the run goes on

REPR = (("labels", "labels"), ("return", "env_return"), ("score", "score"))  # name, metric


class Run:
    """Holds one run's folder: its config, metrics, checkpoints and clock, and the lock on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._looked_at: tuple[int, dict[str, Any]] | None = None  # a checkpoint, until it is loaded
        self.amended: frozenset[str] = frozenset()  # options that a resumed run goes on with, see `resuming.amend`
        self._locks = ExitStack()  # what is held while this process works on the run
        self._folder: int | None = None  # a descriptor of the locked folder

    @property
    def path(self) -> Path:
        """Returns its folder. Raises UserError if that was moved away while this process works on the run: whoever
        writes there would make a second one."""
        if self._folder is not None and not lies_at(self._path, self._folder):
            raise UserError(f"{self._path} was moved or removed while a run was at work in it; put it back and resume")
        return self._path

    @property
    def metrics_path(self) -> Path:
        """Returns where the rows of metrics are."""
        return self.path / "metrics.jsonl"

    def __repr__(self) -> str:
        """Says the folder, what it was asked for and how far it is, as far as these can be read."""
        words = [str(self.path)]
        with suppress(UserError, OSError):
            command, config = self.config()
            what = f"{config.policy} by {config.oracle}" if command == "finetune" else config.env_id
            row = self.last_metrics() or {"env_steps": 0}
            figures = [f"{name} {row[key]:.4g}" for name, key in REPR if row.get(key) is not None]
            words += [f"{command} {what}", f"{row['env_steps']:,} of {config.total_steps:,} steps", *figures]
        return f"Run({', '.join(words)})"

    @classmethod
    def create(cls, path: str | Path, command: str, config: Any, **facts: Any) -> "Run":
        """Makes a folder with its manifest and config, locked. An existing one is never written over."""
        path = Path(path)
        refuse_used(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {path}: {error.strerror}; name another one with --out") from error
        run = cls(path)
        run.lock()  # before anything is written: of several at one instant, one goes on
        try:
            refuse_used(path)  # another process may have been first
        except UserError:
            run.unlock()
            raise
        run.write_json("manifest.json", {"verb": command, "seed": config.seed, **facts, **environment_facts()})
        run.write_json("config.json", {"verb": command, "config": dataclasses.asdict(config)})  # last: now it is a run
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Opens the run in this folder. Raises UserError if there is none."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise UserError(f"{path} is not a run's folder (it has no config.json)")
        return cls(path)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of the folder anew, whole or not at all."""
        write_atomic(self.path / name, (json.dumps(value, indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Reads a file of the folder. Raises UserError if it is not there, CorruptFileError if it is damaged."""
        try:
            return json.loads(read_own(self.path / name))
        except FileNotFoundError:
            raise UserError(f"{self.path} has no {name}") from None
        except ValueError as error:
            raise CorruptFileError(f"{self.path / name} is not valid JSON ({error}); restore it from a copy") from None

    def config(self) -> tuple[str, Any]:
        """Reads which command began this run, and its config."""
        saved = self.read_json("config.json")
        kinds = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
        try:
            return saved["verb"], from_dict(kinds[saved["verb"]], saved["config"])
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CorruptFileError(f"{self.path / 'config.json'} is not a config ({error!r}); restore it") from None
        except UserError as error:
            raise CorruptFileError(f"{self.path / 'config.json'}: {error}") from None

    def finished(self) -> bool:
        """Tells whether all its steps were done."""
        rows, (_, config) = self.metrics(), self.config()
        iteration = config.ppo.num_envs * config.ppo.num_steps
        steps = max(iteration, config.total_steps // iteration * iteration)
        if checkpoints_of(self.path):  # these are sealed
            return self.look_at_checkpoint()[0] * iteration >= steps
        done = rows[-1].get("env_steps") if rows else None
        return isinstance(done, int) and done >= steps

    # -- metrics

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one row, as `rows.append_row`."""
        append_row(self.metrics_path, row)

    def metrics(self) -> list[dict[str, Any]]:
        """Reads the rows so far, as `rows.read_rows`."""
        return read_rows(self.metrics_path)

    def last_metrics(self) -> dict[str, Any] | None:
        """Reads the newest whole row, as `rows.last_row`."""
        return last_row(self.metrics_path)

    # -- checkpoints

    def save_checkpoint(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Saves the state before `iteration`, once the rows before it are on the disk. The last few checkpoints
        stay."""
        if self.metrics_path.exists():
            with open_own(self.metrics_path, "ab") as file:
                os.fsync(file.fileno())
            sync(self.path)  # where the file may be new
        save_state(checkpoint_path(self.path, iteration), {**state, "wall_seconds": self.wall_seconds()})
        for path in checkpoints_of(self.path)[KEEP_CHECKPOINTS:]:
            path.unlink(missing_ok=True)

    def load_checkpoint(self) -> tuple[int, dict[str, Any]]:
        """Loads (iteration, state) of the newest whole checkpoint, as `checkpoints.newest`; (0, {}) if the run died
        before its first."""
        if self._looked_at is not None:
            looked_at, self._looked_at = self._looked_at, None
            return looked_at
        iteration, state = newest(self.path)
        if state:
            self._started = time.monotonic() - state["wall_seconds"]
        return iteration, state

    def look_at_checkpoint(self) -> tuple[int, dict[str, Any]]:
        """Loads as `load_checkpoint`, which then gives the very same."""
        self._looked_at = self.load_checkpoint()
        return self._looked_at

    # -- one process at a time

    def lock(self) -> None:
        """Makes this process the only one that works on the run, until `unlock`, or its end, however it ends. Raises
        UserError if another one does. The folder is locked beside the file, which somebody may remove; some network
        file systems lock files only."""
        if self._folder is not None:
            return
        with ExitStack() as stack:
            try:
                folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, folder)
                file = stack.enter_context(open_own(self._path / LOCK, "r+b"))
            except ForeignFileError:
                raise
            except OSError as error:
                raise UserError(
                    f"cannot lock {self._path}: {error.strerror}; make it a folder that you can write to"
                ) from error
            for descriptor in (file.fileno(), folder):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UserError(f"another process is working on {self._path}; wait for it or stop it") from None
                except OSError as error:
                    if descriptor != folder:
                        raise UserError(f"cannot lock {self._path / LOCK}: {error.strerror}") from error
            self._folder, self._locks = folder, stack.pop_all()
            weakref.finalize(self, self._locks.close)  # whoever forgets the run works on it no more

    def unlock(self) -> None:
        """Lets others work on the run."""
        self._folder = None
        self._locks.close()

    def follow(self) -> Path | None:
        """Goes with the locked folder if that was moved meanwhile, where the system can tell where it is. Returns where
        it was."""
        if self._folder is None or lies_at(self._path, self._folder):
            return None
        here, there = self._path, Path(os.path.realpath(f"/proc/self/fd/{self._folder}"))
        self._path = there
        if not lies_at(self._path, self._folder):
            self._path = here
            return None
        return here

    def wall_seconds(self) -> float:
        """Returns the seconds spent on this run, over all its resumptions."""
        return time.monotonic() - self._started


def refuse_used(path: Path) -> None:
    """Raises UserError unless a run's folder can be made here."""
    try:
        used = path.exists() and (not path.is_dir() or any(not unfinished(file) for file in path.iterdir()))
    except OSError as error:
        raise UserError(f"cannot look into {path}: {error.strerror}; name another folder with --out") from error
    if used:
        raise UserError(f"{path} exists; name another folder with --out, or go on with `{command_for(path, 'resume')}`")


def command_for(path: Path, verb: str, *options: str, behaviours: bool = True) -> str:
    """Returns the command that does something with the run in this folder, with what the user has to name again for
    code of theirs to run, as far as the folder can be read: its environment's module and, if the command reads them,
    its `behaviours`."""
    words = ["rlhf-control", verb, str(path), *options]
    with suppress(UserError, OSError, AttributeError, RecursionError):  # the last two of damaged JSON
        run = Run.open(path)
        _, config = run.config()
        env_id = config.env_id or str(run.read_json("manifest.json").get("env_id", ""))
        words += ["--env-id", env_id] if ":" in env_id else []
        if behaviours and isinstance(config, FinetuneConfig) and config.behaviours:
            words += ["--behaviours", config.behaviours]
    return shlex.join(words)


def unfinished(file: Path) -> bool:
    """Tells whether this is all that a process killed while it made a run's folder can have left there."""
    if file.name == "manifest.json":
        with suppress(OSError, ValueError):
            return "git_commit" in json.loads(read_own(file))  # ours
    return file.name == LOCK or (file.name.startswith(".") and file.name.endswith(".tmp"))


def lies_at(path: Path, folder: int) -> bool:
    """Tells whether the folder of this descriptor is the one of this path."""
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(folder))
    return False
