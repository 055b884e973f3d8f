"""A run's folder.

runs/NAME/
  manifest.json      the verb, versions, git commit, seed, threads, when
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
import math
import os
import sys
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.files import ForeignFileError, load_state, open_own, read_own, save_state, sync, write_atomic
from rlhf_control.runs.machine import environment_facts

KEEP_CHECKPOINTS = 2
LOCK = "run.lock"
FAILED = "failed.txt"  # why; there until the run goes on
TAIL = 65_536  # bytes: longer than any row of metrics
REPR = (("labels", "labels"), ("return", "env_return"), ("score", "score"))  # name, metric


class Run:
    """One run's folder: its metrics, checkpoints and clock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._looked_at: tuple[int, dict[str, Any]] | None = None  # a checkpoint, until it is loaded
        self.amended: frozenset[str] = frozenset()  # options that a resumed run goes on with, see `resuming.amend`
        self._locks = ExitStack()  # what is held while this process works on the run
        self._folder: int | None = None  # a descriptor of the locked folder

    @property
    def path(self) -> Path:
        """Its folder. Raises UserError if that was moved away while this process works on the run: whoever writes
        there would make a second one."""
        if self._folder is not None and not self._in_place():
            raise UserError(f"{self._path} was moved or removed while a run was at work in it; put it back and resume")
        return self._path

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def __repr__(self) -> str:
        """The folder, what it was asked for and how far it is, as far as these can be read."""
        words = [str(self.path)]
        with suppress(UserError, OSError):
            verb, config = self.config()
            what = f"{config.policy} by {config.oracle}" if verb == "finetune" else config.env_id
            row = self.last_metrics() or {"env_steps": 0}
            figures = [f"{name} {row[key]:.4g}" for name, key in REPR if row.get(key) is not None]
            words += [f"{verb} {what}", f"{row['env_steps']:,} of {config.total_steps:,} steps", *figures]
        return f"Run({', '.join(words)})"

    @classmethod
    def create(cls, path: str | Path, verb: str, config: Any, **facts: Any) -> "Run":
        """A new folder with its manifest and config, locked. An existing one is never written over."""
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
        run.write_json("manifest.json", {"verb": verb, "seed": config.seed, **facts, **environment_facts()})
        run.write_json("config.json", {"verb": verb, "config": dataclasses.asdict(config)})  # last: now it is a run
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        path = Path(path)
        if not (path / "config.json").is_file():
            raise UserError(f"{path} is not a run's folder (it has no config.json)")
        return cls(path)

    def write_json(self, name: str, value: Any) -> None:
        write_atomic(self.path / name, (json.dumps(value, indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(read_own(self.path / name))
        except FileNotFoundError:
            raise UserError(f"{self.path} has no {name}") from None
        except ValueError as error:
            raise CorruptFileError(f"{self.path / name} is not valid JSON ({error}); restore it from a copy") from None

    def config(self) -> tuple[str, Any]:
        """(verb, config) of this run."""
        saved = self.read_json("config.json")
        kinds = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
        try:
            return saved["verb"], from_dict(kinds[saved["verb"]], saved["config"])
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CorruptFileError(f"{self.path / 'config.json'} is not a config ({error!r}); restore it") from None
        except UserError as error:
            raise CorruptFileError(f"{self.path / 'config.json'}: {error}") from None

    def failed(self) -> bool:
        """Whether an error that its user can mend ended it."""
        return (self.path / FAILED).exists()

    def finished(self) -> bool:
        """Whether all its steps were done."""
        rows, (_, config) = self.metrics(), self.config()
        iteration = config.ppo.num_envs * config.ppo.num_steps
        steps = max(iteration, config.total_steps // iteration * iteration)
        if self._checkpoints():  # these are sealed
            return self.look_at_checkpoint()[0] * iteration >= steps
        done = rows[-1].get("env_steps") if rows else None
        return isinstance(done, int) and done >= steps

    # -- metrics

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one row. A killed process loses at most this one; power loss, those since the last checkpoint, which
        a resumed run makes again."""
        try:
            with open_own(self.metrics_path, "ab") as file:
                file.write((json.dumps({k: _finite(v) for k, v in row.items()}) + "\n").encode())
        except ForeignFileError:
            raise
        except OSError as error:
            raise UserError(
                f"cannot write {self.metrics_path}: {error.strerror}; free some space and resume"
            ) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The rows so far. A last line that a crash cut off is left out."""
        if not self.metrics_path.exists():
            return []
        rows = []
        lines = read_own(self.metrics_path).decode(errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append({**row, "iteration": int(row["iteration"])})
            except (ValueError, TypeError, KeyError):
                if number < len(lines):
                    message = f"{self.metrics_path}, line {number} is no row of metrics; remove it"
                    raise CorruptFileError(message) from None
            if len(rows) > 1 and rows[-1]["iteration"] != (due := rows[-2]["iteration"] + 1):
                raise CorruptFileError(
                    f"{self.metrics_path}, line {number} is of iteration {rows[-1]['iteration']} where {due} is due: "
                    "rows are missing or doubled; restore it from a copy"
                )
        return rows

    def last_metrics(self) -> dict[str, Any] | None:
        """The newest whole row, at the cost of its own length: for who looks often. None if there is none."""
        with suppress(OSError, ValueError), open_own(self.metrics_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().split(b"\n")[:-1]  # what follows the last end of line was cut off
            return json.loads(lines[-1]) if lines else None
        return None

    def rewind_metrics(self, iterations: int) -> None:
        """Forgets the rows of iterations that a resumed run will do again."""
        if not self.metrics_path.exists():
            return
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["iteration"] < iterations]
        write_atomic(self.metrics_path, "".join(kept).encode())

    # -- checkpoints

    def save_checkpoint(self, iteration: int, state: Mapping[str, Any]) -> None:
        """The state before `iteration`, once the rows before it are on the disk. The last few checkpoints stay."""
        if self.metrics_path.exists():
            with open_own(self.metrics_path, "ab") as file:
                os.fsync(file.fileno())
            sync(self.path)  # where the file may be new
        save_state(self.checkpoint_path(iteration), {**state, "wall_seconds": self.wall_seconds()})
        for path in self._checkpoints()[KEEP_CHECKPOINTS:]:
            path.unlink(missing_ok=True)

    def load_checkpoint(self) -> tuple[int, dict[str, Any]]:
        """(iteration, state) of the newest whole checkpoint; damaged ones are passed over with a word. (0, {}) if the
        run died before its first."""
        if self._looked_at is not None:
            looked_at, self._looked_at = self._looked_at, None
            return looked_at
        paths = self._checkpoints()
        if not paths:
            return 0, {}
        for path in paths:
            try:
                state = load_state(path)
                if "wall_seconds" not in state:
                    raise CorruptFileError(f"{path} is not a checkpoint")
                if (iteration := state.get("left", {}).get("iteration", int(path.stem))) != int(path.stem):
                    raise CorruptFileError(f"{path} is the checkpoint of iteration {iteration}, under another name")
            except CorruptFileError as error:
                print(f"rlhf-control: {error}; trying the one before", file=sys.stderr)
                continue
            self._started = time.monotonic() - state["wall_seconds"]
            return int(path.stem), state
        raise UserError(f"{self.path} has no whole checkpoint to go on from; start the run again")

    def look_at_checkpoint(self) -> tuple[int, dict[str, Any]]:
        """As `load_checkpoint`, which then gives the very same."""
        self._looked_at = self.load_checkpoint()
        return self._looked_at

    def checkpoint_path(self, iteration: int) -> Path:
        return self._checkpoint_folder() / f"{iteration:08d}.npz"

    def _checkpoints(self) -> list[Path]:
        return sorted(self._checkpoint_folder().glob("[0-9]" * 8 + ".npz"), reverse=True)

    def _checkpoint_folder(self) -> Path:
        """The old ones are removed from it, so it must be the run's own."""
        folder = self.path / "checkpoints"
        if folder.is_symlink():
            raise ForeignFileError(folder, "a symbolic link")
        return folder

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
        """If the locked folder was moved meanwhile, goes there with it, where the system can tell where that is;
        returns where it was."""
        if self._folder is None or self._in_place():
            return None
        here, there = self._path, Path(os.path.realpath(f"/proc/self/fd/{self._folder}"))
        self._path = there
        if not self._in_place():
            self._path = here
            return None
        return here

    def _in_place(self) -> bool:
        """Whether the folder of this path is the one that was locked."""
        assert self._folder is not None
        with suppress(OSError):
            return os.path.samestat(os.stat(self._path), os.fstat(self._folder))
        return False

    def wall_seconds(self) -> float:
        """Seconds spent on this run, over all its resumptions."""
        return time.monotonic() - self._started


def refuse_used(path: Path) -> None:
    """Raises UserError unless a run's folder can be made here."""
    try:
        used = path.exists() and (not path.is_dir() or any(not unfinished(file) for file in path.iterdir()))
    except OSError as error:
        raise UserError(f"cannot look into {path}: {error.strerror}; name another folder with --out") from error
    if used:
        raise UserError(f"{path} exists; name another folder with --out, or go on with `rlhf-control resume {path}`")


def unfinished(file: Path) -> bool:
    """Whether this is all that a process killed while it made a run's folder can have left there."""
    if file.name == "manifest.json":
        with suppress(OSError, ValueError):
            return "git_commit" in json.loads(read_own(file))  # ours
    return file.name == LOCK or (file.name.startswith(".") and file.name.endswith(".tmp"))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
