"""Runs side by side on this machine: a process and a core each, so that one crash stops no other.

A process takes the next run when it has done one, for importing torch takes longer than a short run; one that failed is
not used again. Processes rather than networks stacked in one: the physics needs a core a run anyway, and a run is the
same to the bit as it is alone.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rlhf_control.compute.processes import safe_path
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import HALTED, Stopped, tell
from rlhf_control.runs.files import open_own, read_own
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.run import Run

POLL_SECONDS = 0.5
STOPPED = {code for number in (signal.SIGINT, signal.SIGTERM) for code in (-number, 128 + number)}  # exit codes


@dataclass(frozen=True)
class RunCell:
    """Holds one run of many: what it is called, its config, which names its folder, and its place in a matrix."""

    name: str
    config: PretrainConfig | FinetuneConfig
    task: str = ""
    method: str = ""


class Ended(NamedTuple):
    """Says how a cell ended."""

    cell: RunCell
    why: str = ""  # it failed, or stopped without being told to from here
    how: str = "done"  # or failed, stopped (by SIGINT or SIGTERM, whoever sent it) or halted (by its guard)


class WorkerPool(Protocol):
    """Says what runs cells side by side."""

    def room(self) -> bool:
        """Whether another cell could begin now."""
        ...

    def start(self, cell: RunCell) -> None:
        """Begins a cell, or goes on with it from what its folder holds."""
        ...

    def ended(self) -> list[Ended]:
        """Waits a moment. Returns how the cells that have ended since did."""
        ...

    def last_row(self, cell: RunCell) -> dict[str, Any] | None:
        """Returns the newest row of a cell's metrics that is known."""
        ...

    def stop(self, cell: RunCell | None = None) -> None:
        """Asks one cell, or all, to save and stop, which is no failure."""
        ...


def run_cells(pool: WorkerPool, cells: Sequence[RunCell], show: Callable[[int, int, int], None]) -> dict[str, str]:
    """Runs all cells, as many at a time as the pool has room for, and returns why those that failed did, by their
    names. `show(done, running, failed)` is called about twice a second. Raises Stopped after SIGINT or SIGTERM, which
    is passed on once, for each cell to save."""
    waiting, failed, done, running = list(cells), dict[str, str](), 0, 0
    stopping = False
    with deferred_signals() as caught:
        while running or (waiting and not caught):
            while waiting and not caught and pool.room():
                pool.start(waiting.pop(0))
                running += 1
            if caught and not stopping:
                stopping = True
                pool.stop()
            for cell, why, how in pool.ended():
                running -= 1
                done += not why
                if why and not (caught and how == "stopped"):  # a signal to the whole group may reach it first
                    failed[cell.name] = why
                    tell(f"{cell.name} failed: {why}")
            show(done, running, len(failed))
    if caught:
        raise Stopped(caught[0], "give the same command again to go on")
    return failed


class LocalPool:
    """Runs `work(config)` on this machine's cores. What a cell writes goes to OUT.log, which stays where it failed."""

    def __init__(self, work: Callable[[Any], object], cores: Sequence[int | None] | None = None) -> None:
        self.cores = available_cores() if cores is None else cores  # None: any
        self.work = work
        self._workers: dict[int, _Worker] = {}  # by place among the cores
        self._told: set[str] = set()  # names of cells that were asked to stop

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends all processes; of those at work, once they have saved."""
        self.stop()
        for worker in self._workers.values():
            worker.close()

    def room(self) -> bool:
        return self._place() is not None

    def start(self, cell: RunCell) -> None:
        place = self._place()
        assert place is not None
        log = Path(f"{cell.config.out}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open_own(log, "wb"):  # refuses what is not ours where that can be said
            pass
        worker = self._workers.get(place)
        if worker is None or not worker.process.is_alive():
            worker = self._workers[place] = _Worker(self.work, self.cores[place])
        self._told.discard(cell.name)
        worker.give(cell)

    def ended(self) -> list[Ended]:
        busy = {place: worker for place, worker in self._workers.items() if worker.cell}
        signs = [sign for worker in busy.values() for sign in (worker.pipe, worker.process.sentinel)]
        wait(signs, timeout=POLL_SECONDS)
        found = []
        for place, worker in busy.items():
            cell, code = worker.cell, worker.exit_code()
            if cell is None or code is _AT_WORK:
                continue
            worker.cell = None
            if code != 0:
                self._workers.pop(place).close()
            found.append(self._end(cell, code))
        return found

    def last_row(self, cell: RunCell) -> dict[str, Any] | None:
        return Run(Path(cell.config.out)).last_metrics()

    def stop(self, cell: RunCell | None = None) -> None:
        for worker in self._workers.values():
            if worker.cell and cell in (None, worker.cell) and worker.cell.name not in self._told:
                self._told.add(worker.cell.name)
                worker.process.terminate()

    @contextmanager
    def frozen(self, cell: RunCell) -> Iterator[None]:
        """Within, a cell's process stands still."""
        processes = [worker.process for worker in self._workers.values() if worker.cell is cell]
        with suppress(ProcessLookupError, ChildProcessError):
            for process in processes:
                os.kill(process.pid or 0, signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid or 0, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                for process in processes:
                    os.kill(process.pid or 0, signal.SIGCONT)

    def _place(self) -> int | None:
        """A free core's; rather one whose process waits for work."""
        free = [i for i in range(len(self.cores)) if i not in self._workers or not self._workers[i].cell]
        return min(free, key=lambda i: i not in self._workers, default=None)

    def _end(self, cell: RunCell, code: int) -> Ended:
        how = "done" if code == 0 else "stopped" if code in STOPPED else "halted" if code == HALTED else "failed"
        if how == "done" or (how == "stopped" and cell.name in self._told):
            Path(f"{cell.config.out}.log").unlink(missing_ok=True)
            return Ended(cell, "", how)
        return Ended(cell, reason(code, cell.config.out), how)


_AT_WORK = object()


def cores_for(workers: int) -> list[int | None]:
    """Returns a core for each of so many processes, the same ones again if there are too few."""
    cores = available_cores()
    return [cores[i % len(cores)] for i in range(workers)]


class _Worker:
    """A process on a core, which does one cell after the other."""

    def __init__(self, work: Callable[[Any], object], core: int | None) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work_on, args=(work, core, theirs))
        with safe_path(), without_sigint():
            self.process.start()
        theirs.close()
        self.cell: RunCell | None = None

    def give(self, cell: RunCell) -> None:
        self.cell = cell
        with suppress(OSError):  # it has died; `exit_code` will say so
            self.pipe.send((cell.config, f"{cell.config.out}.log"))

    def exit_code(self) -> Any:
        """Of its cell: 0 if that is done, else that of the process; _AT_WORK while it works."""
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                return self.pipe.recv()
        if self.process.is_alive():
            return _AT_WORK
        self.process.join()
        return self.process.exitcode

    def close(self) -> None:
        """Ends the process; if it is at work, once that is done."""
        self.pipe.close()
        self.process.join()


@contextmanager
def without_sigint() -> Iterator[None]:
    """Has processes that are spawned within begin with SIGINT blocked: Ctrl-C in a terminal reaches all of its group,
    also one that is still importing."""
    resource_tracker.ensure_running()  # which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work_on(work: Callable[[Any], object], core: int | None, cells: Connection) -> None:
    """In a process, a session (Ctrl-C reaches the parent alone) and on a core of its own: cells, until there are no
    more, or one fails."""
    with suppress(OSError):
        os.setsid()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, handler)
    threading.Thread(target=follow_parent, daemon=True).start()
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    while True:
        try:
            config, log = cells.recv()
        except (EOFError, OSError):
            return
        with open_own(log, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if code := work(config):
            sys.exit(code)  # type: ignore[arg-type]
        sys.stdout.flush()
        cells.send(0)


def follow_parent() -> None:
    """Saves and stops when the parent is gone, however it went."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def reason(exitcode: int | None, out: str) -> str:
    """Why a run's process ended: the signal that killed it, before which it cannot have said anything about it; else
    its last line, of our own if there is one."""
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):  # a signal without a name
            name = signal.Signals(-exitcode).name
            memory = "; if nobody did that, the machine may lack memory" if name == "SIGKILL" else ""
            return f"killed by {name}{memory} (see {out}.log)"
        return f"killed by signal {-exitcode} (see {out}.log)"
    lines: list[str] = []
    with suppress(OSError):
        lines = read_own(f"{out}.log").decode(errors="replace").strip().splitlines()
    ours = [line for line in lines if line.startswith("rlhf-control: ")] if exitcode != 1 else []  # 1: a traceback
    last = (ours or lines or [f"exit code {exitcode}, and not a word"])[-1].removeprefix("rlhf-control: ")
    return f"{last} (see {out}.log)"
