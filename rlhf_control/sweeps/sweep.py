"""A sweep: what of a matrix is not done yet is run, and every cell has an end that can be told."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.training import asks_for
from rlhf_control.errors import UserError
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.on_ray import NO_RAY, RayPool
from rlhf_control.sweeps.parcels import mend
from rlhf_control.sweeps.pool import LocalPool, RunCell, cores_for, run_cells
from rlhf_control.wording import counted

PATIENCE = 60.0  # seconds for the processes of a driver that was killed to save


@dataclass(frozen=True)
class Place:
    """Says where runs are made: on this machine's cores, through a Ray of its own, or on a cluster."""

    ray: bool = False
    address: str = ""
    workers: int = 0  # 0: one for each core

    def check(self) -> None:
        """Raises UserError, before anything is written, if runs can be made nowhere for want of Ray."""
        if (self.ray or self.address) and find_spec("ray") is None:
            raise UserError(NO_RAY)

    def pool(self, work: Callable[[Any], object], most: int) -> AbstractContextManager[Any]:
        """Makes the pool, for `most` runs at a time."""
        if self.ray or self.address:
            return RayPool(work, self.address, min(most, self.workers or most))
        return LocalPool(work, cores_for(self.workers) if self.workers else None)


def run_sweep(cells: Sequence[RunCell], out: str, work: Callable[[Any], object], place: Place) -> dict[str, str]:
    """Runs the cells that are not done yet and returns why those that failed did, by name. Only one process at a time
    is at work in the folder `out`."""
    place.check()
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; name another with --out") from error
    lock = Run(folder)
    lock.lock()
    try:
        for cell in cells:
            mend(Path(cell.config.out))
        left = [cell for cell in cells if not is_done(cell.config)]
        if not left:
            return {}
        with place.pool(work, len(left)) as pool, _line(cells) as line:
            before = len(cells) - len(left)
            rows = {cell.name: row for cell in cells if (row := Run(Path(cell.config.out)).last_metrics())}

            def show(done: int, running: int, failed: int) -> None:
                rows.update({cell.name: row for cell in left if (row := pool.last_row(cell))})
                steps = sum(row["env_steps"] for row in rows.values())
                line.show({"env_steps": steps, "done": before + done, "running": running, "failed": failed})

            return run_cells(pool, left, show)
    finally:
        lock.unlock()


def _line(cells: Sequence[RunCell]) -> ProgressLine:
    return ProgressLine(counted(len(cells), "run"), sum(cell.config.total_steps for cell in cells))


def is_done(config: PretrainConfig | FinetuneConfig) -> bool:
    """Whether a run with these very options has come to its end, report included."""
    folder = Path(config.out)
    with suppress(UserError):
        run = Run.open(folder)
        whole = (folder / "policy.npz").is_file() and (folder / "results.json").is_file()
        return whole and asks_for(config, run.config()[1]) and run.finished()
    return False


def wait_for(folder: Path, patience: float = PATIENCE) -> None:
    """Waits until no other process works on a run: one whose driver was killed saves first."""
    run, deadline = Run(folder), time.monotonic() + patience
    while (folder / "config.json").is_file():
        try:
            run.lock()
            return run.unlock()
        except UserError:  # who works on it then will say it
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)
    return None
