"""Runs side by side on a Ray cluster, or on a Ray of this machine: the pool of `pool`, over a wire.

Every core of the cluster has a Station (an actor), which does runs one after the other in a LocalPool of one process,
in a folder of its own; no file system need be shared. Its parcels (new checkpoints, metrics, and in the end all files)
come back into the caller's folder, from which a run whose worker or node is lost goes on at another.
"""

import fcntl
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_control import __version__
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError, tell
from rlhf_control.runs.files import open_own, read_own
from rlhf_control.sweeps.parcels import Parcel, Signs, mend, pack, place, unpack
from rlhf_control.sweeps.pool import POLL_SECONDS, Ended, LocalPool, RunCell

CONNECT_SECONDS = 14.0  # to reach a cluster: with the imports before, 20
SNAPSHOT_SECONDS = 10.0  # between two parcels of a run that goes on, at least
TRIES = 4  # of a run whose worker is lost
NO_RAY = "--ray and --address need Ray: pip install 'rlhf_control[ray]'"


@dataclass(frozen=True)
class Report:
    """Holds what a station has to say about its run."""

    row: dict[str, Any] | None  # the newest of its metrics
    parcel: Parcel | None
    end: Ended | None = None  # once it has ended
    log: bytes = b""  # of a run that failed


class Station:
    """Does one run after the other on a core of some node; the methods return at once, but for `look`."""

    def __init__(self, work: Callable[[Any], object]) -> None:
        self.folder = tempfile.mkdtemp(prefix="rlhf_control-station-")
        os.chdir(self.folder)
        self.core, self.lock = free_core()
        self.pool = LocalPool(work, cores=[self.core])
        self.cell: RunCell | None = None
        self.sent: Signs = {}
        self.packed = 0.0

    def version(self) -> str:
        return __version__

    def start(self, config: PretrainConfig | FinetuneConfig, so_far: Parcel, *inputs: Parcel) -> None:
        """Begins a run, or goes on with what it has so far; `inputs` are the files that its options name."""
        for parcel in inputs:
            place(parcel, Path())
        self.cell, self.sent, self.packed = RunCell(config.out, config), {}, time.monotonic()
        if so_far.names:
            unpack(so_far, Path(config.out))
            pack(Path(config.out), self.sent)
        self.pool.start(self.cell)

    def look(self, started: None = None) -> Report:
        """Waits a moment and says how the run is; if it could not be `started`, this fails as that did."""
        assert self.cell is not None
        cell, folder = self.cell, Path(self.cell.config.out)
        for end in self.pool.ended():
            log = Path(f"{folder}.log")
            said = read_own(log) if log.is_file() else b""
            row, parcel = self.pool.last_row(cell), pack(folder, self.sent)
            shutil.rmtree(folder, ignore_errors=True)
            return Report(row, parcel, end, said)
        return Report(self.pool.last_row(cell), self._snapshot(cell, folder))

    def stop(self) -> None:
        self.pool.stop()

    def close(self) -> None:
        self.pool.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _snapshot(self, cell: RunCell, folder: Path) -> Parcel | None:
        """What changed since the last one, if there is a new checkpoint. The run stands still meanwhile: a copy of all
        files at one instant is as good to go on from as what a killed run leaves."""
        if time.monotonic() - self.packed < SNAPSHOT_SECONDS:
            return None
        newest = max((path.name for path in (folder / "checkpoints").glob("*.npz")), default="")
        if not newest or f"checkpoints/{newest}" in self.sent:
            return None
        self.packed = time.monotonic()
        with self.pool.frozen(cell):
            return pack(folder, self.sent)


def free_core() -> tuple[int | None, Any]:
    """A core of this machine that no other station has, and the lock that says so; None if all are taken. Ray counts
    cores, but gives none in particular."""
    for core in available_cores():
        with suppress(OSError, UserError):
            lock = open_own(Path(tempfile.gettempdir()) / f"rlhf_control-{os.getuid()}-core-{core}.lock", "r+b")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return core, lock
            except OSError:
                lock.close()
    return None, None


class RayPool:
    """Runs `work(config)` on a cluster: every config into the caller's folder of it."""

    def __init__(self, work: Callable[[Any], object], address: str = "", most: int = sys.maxsize) -> None:
        self.work, self.most = work, most
        self.ray = connect(address)
        self._opening: dict[Any, Any] = {}  # reference to the version -> station
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, RunCell]] = {}  # reference to a report -> station, cell
        self._rows: dict[str, dict[str, Any]] = {}
        self._lost: list[RunCell] = []  # to be gone on with elsewhere
        self._tries: dict[str, int] = {}
        self._inputs: dict[str, Any] = {}  # references
        self._told: set[str] = set()

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        with suppress(Exception):  # whoever does not answer any more needs not be closed
            stations = [*self._idle, *self._opening.values(), *(station for station, _ in self._busy.values())]
            self.ray.get([station.close.remote() for station in stations], timeout=60)
        self.ray.shutdown()

    def room(self) -> bool:
        return bool(self._idle) and not self._lost

    def start(self, cell: RunCell) -> None:
        self._tries[cell.name] = 1
        self._told.discard(cell.name)
        self._begin(cell)

    def ended(self) -> list[Ended]:
        found = [Ended(cell, "", "stopped") for cell in self._lost if cell.name in self._told]
        self._lost = [cell for cell in self._lost if cell.name not in self._told]
        self._open_stations()
        references = [*self._opening, *self._busy]
        if not references:
            time.sleep(POLL_SECONDS)
            return found
        ready, _ = self.ray.wait(references, timeout=POLL_SECONDS)
        if len(references) > 1:
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            if reference in self._opening:
                self._opened(reference)
            elif end := self._heard(reference):
                found.append(end)
        while self._lost and self._idle:
            self._begin(self._lost.pop(0))
        return found

    def last_row(self, cell: RunCell) -> dict[str, Any] | None:
        return self._rows.get(cell.name)

    def stop(self, cell: RunCell | None = None) -> None:
        for station, at_work in self._busy.values():
            if cell in (None, at_work) and at_work.name not in self._told:
                self._told.add(at_work.name)
                station.stop.remote()
        self._told.update(lost.name for lost in self._lost if cell in (None, lost))

    # -- stations

    def _open_stations(self) -> None:
        """Has a station for every core of the cluster, as far as there are cells for them."""
        cores = int(self.ray.cluster_resources().get("CPU", 0))
        there = len(self._opening) + len(self._idle) + len(self._busy)
        for _ in range(min(cores, self.most) - there):
            actor = self.ray.remote(Station).options(num_cpus=1, max_restarts=0, max_task_retries=0)
            station = actor.remote(self.work)
            self._opening[station.version.remote()] = station

    def _opened(self, reference: Any) -> None:
        station = self._opening.pop(reference)
        try:
            version = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            if "ModuleNotFoundError" in str(error):
                raise UserError("a node of the cluster has no rlhf_control; install the same version on all") from error
            return  # its node is gone; `_open_stations` opens another
        if version != __version__:
            raise UserError(f"a node of the cluster has rlhf_control {version}, not {__version__}; install the same")
        self._idle.append(station)

    def _begin(self, cell: RunCell) -> None:
        station, out = self._idle.pop(), Path(cell.config.out)
        mend(out)
        config = replace(cell.config, out=cell.name)
        inputs = [self._input(name) for name in inputs_of(cell.config)]
        started = station.start.remote(config, pack(out) if out.is_dir() else Parcel(()), *inputs)
        self._busy[station.look.remote(started)] = station, cell

    def _input(self, name: str) -> Any:
        """A reference to what an option names; it is sent once to every node that needs it."""
        if name not in self._inputs:
            self._inputs[name] = self.ray.put(input_parcel(Path(name)))
        return self._inputs[name]

    def _heard(self, reference: Any) -> Ended | None:
        station, cell = self._busy.pop(reference)
        out = Path(cell.config.out)
        try:
            report: Report = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return self._missed(station, cell, error)
        if report.row:
            self._rows[cell.name] = report.row
        if report.parcel is not None and report.parcel.names:
            unpack(report.parcel, out)
        if report.end is None:
            self._busy[station.look.remote()] = station, cell
            return None
        self._idle.append(station)
        log = Path(f"{out}.log")
        log.unlink(missing_ok=True)
        if report.end.why:
            with open_own(log, "wb") as file:
                file.write(report.log)
        return Ended(cell, report.end.why.replace(f"(see {cell.name}.log)", f"(see {log})"), report.end.how)

    def _missed(self, station: Any, cell: RunCell, error: Exception) -> Ended | None:
        """What to do about a run of which its station can say nothing."""
        with suppress(Exception):  # it may be gone
            self.ray.kill(station)
        if cell.name in self._told:
            return Ended(cell, "", "stopped")
        if not isinstance(error, self.ray.exceptions.RayActorError):
            said = getattr(error, "cause", None) or error
            return Ended(cell, str(said).strip().splitlines()[-1], "failed")
        if self._tries[cell.name] == TRIES:
            return Ended(cell, f"its worker was lost {TRIES} times, as when a machine lacks memory", "failed")
        self._tries[cell.name] += 1
        tell(f"{cell.name}: its worker is lost; it goes on at another from its last checkpoint here")
        self._lost.append(cell)
        return None


# -- what runs are started from


def inputs_of(config: PretrainConfig | FinetuneConfig) -> list[str]:
    """The files and folders that a config names and that travel to the nodes: those below the current folder. What
    it names absolutely has to be on every node."""
    if isinstance(config, PretrainConfig):
        return []
    named = (
        config.policy, config.obs_stats, config.demonstrations, config.behaviours, config.replay, config.query.gold
    )  # fmt: skip
    return [name for name in named if name and not Path(name).is_absolute() and Path(name).exists()]


def input_parcel(path: Path) -> Parcel:
    """A file, or a folder (of a run: without its checkpoints if it has come to an end), named from the current one."""
    if path.is_file():
        return Parcel((path.as_posix(),), {path.as_posix(): read_own(path, follow=True)})
    ended = (path / "policy.npz").is_file()
    parcel = pack(path, wanted=lambda name: not (ended and name.startswith("checkpoints/")))
    contents = {(path / name).as_posix(): content for name, content in parcel.contents.items()}
    return Parcel(tuple(contents), contents)


# -- the cluster


def connect(address: str) -> Any:
    """Returns Ray, connected to the cluster at this address, or to one of this machine that it starts. Raises
    UserError if Ray is not installed or cannot be reached."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it would send them over the network
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if not address:  # one that nobody else gets to know
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with at_most(CONNECT_SECONDS if address else 0, unreachable(address, f"nothing in {CONNECT_SECONDS:.0f} s")):
            import ray

            if not address:
                cores = len(available_cores())
                ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
                return ray
            knock(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR")
            return ray
    except ImportError:
        raise UserError(NO_RAY) from None
    except Exception as error:  # Ray has no class for all of its reasons
        if isinstance(error, UserError):
            raise
        raise UserError(unreachable(address, str(error).strip().partition("\n")[0])) from error


def unreachable(address: str, why: str) -> str:
    where = f"no Ray cluster can be reached at {address}" if address else "Ray does not start"
    hint = "; look at its address (ray status) and token (RAY_AUTH_TOKEN or ~/.ray/auth_token)" if address else ""
    return f"{where}: {why}{hint}"


def knock(address: str) -> None:
    """Raises UserError if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, say
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(unreachable(address, str(error))) from None


@contextmanager
def at_most(seconds: float, said: str) -> Iterator[None]:
    """Ends this process with code 2 and a line if what is within takes longer: native code hears of nothing else."""

    def give_up() -> None:
        os.write(2, f"rlhf-control: {said}\n".encode())
        os._exit(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
