"""Is this machine fit for the project? One line a check, and how to mend what is not.

Imports nothing that may be missing until the check that needs it.
"""

import contextlib
import importlib.metadata
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


TRAINING = {"numpy", "torch", "gymnasium", "mujoco", "tyro"}  # without these nothing runs; the others lose a part


@dataclass(frozen=True)
class Check:
    """Holds what was found."""

    status: str  # "ok"; "warning": some part will not work; "problem": training will not
    name: str
    found: str
    remedy: str = ""


BALL = """<mujoco><worldbody>
  <geom type="plane" size="1 1 1"/>
  <body pos="0 0 1"><freejoint/><geom size="1" rgba="1 0 0 1"/></body>
</worldbody></mujoco>"""


def doctor() -> bool:
    """Prints a table of checks. False if something is wrong that training needs. Never raises."""
    checks = []
    for examine in EXAMINATIONS:
        try:
            found = list(examine())
        except Exception as error:  # whatever is broken here must not hide the other checks
            found = [Check("warning", examine.__name__, f"could not be examined: {error!r}", "report this as a bug")]
        for check in found:
            print(f"{check.status:<8} {check.name:<18} {check.found}", flush=True)
            if check.remedy:
                print(f"{'':<8} {'':<18} -> {check.remedy}")
        checks += found
    count = {status: sum(check.status == status for check in checks) for status in ("warning", "problem")}
    print(f"\nproblems: {count['problem']}, warnings: {count['warning']}; ", end="")
    print("training will not work here yet" if count["problem"] else "training works here")
    return not count["problem"]


def packages() -> Iterator[Check]:
    """Checks Python and the packages, against the ranges that setup.cfg gave when the project was installed."""
    from packaging.requirements import Requirement

    try:
        project = importlib.metadata.metadata("rlhf_control")
    except importlib.metadata.PackageNotFoundError:
        yield Check("warning", "rlhf_control", "not installed", "pip install -e . in the project's folder")
        return
    python = Requirement(f"python{project['Requires-Python']}")
    yield _in_range(python, ".".join(map(str, sys.version_info[:3])), "problem", "apt install python3-venv")
    for needed in map(Requirement, project.get_all("Requires-Dist") or []):
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        status = "problem" if needed.name in TRAINING else "warning"
        yield _in_range(needed, _version(needed.name), status, f"pip install '{needed}'")
    if _version("pygame") and _version("pygame-ce"):
        remedy = "pip uninstall -y pygame pygame-ce && pip install pygame-ce"
        yield Check("problem", "pygame", "both pygame and pygame-ce, which overwrite each other's files", remedy)


def _in_range(needed: "Requirement", version: str | None, status: str, remedy: str) -> Check:
    if version is None:
        return Check(status, needed.name, f"missing; {needed.specifier} is needed", remedy)
    if not needed.specifier.contains(version, prereleases=True):
        return Check(status, needed.name, f"{version}; {needed.specifier} is needed", remedy)
    return Check("ok", needed.name, version)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def pictures() -> Iterator[Check]:
    try:
        import mujoco
        import numpy as np

        from rlhf_control.rendering import clips
    except Exception as error:  # mujoco itself cannot be imported under a MUJOCO_GL that does not work
        yield Check("problem", "mujoco", f"cannot be imported: {error}", "unset MUJOCO_GL, or mend the packages above")
        return

    remedy = "apt install libegl1 libgl1-mesa-dri (until then clips are plain drawings)"
    backend = clips.choose_gl()
    if backend == "none":
        chosen = os.environ.get("MUJOCO_GL")
        yield Check("warning", "OpenGL", f"MUJOCO_GL={chosen}" if chosen else "neither EGL nor OSMesa works", remedy)
        return
    model = mujoco.MjModel.from_xml_string(BALL)
    states = np.zeros((40, model.nq + model.nv))
    states[:, 2:4] = 1  # height and an upright quaternion
    try:
        clips.render_mujoco(model, states[:1])  # the first one also compiles shaders
        start = time.perf_counter()
        frames = clips.render_mujoco(model, states)
        seconds = time.perf_counter() - start
    except clips.NoGLError as error:
        yield Check("warning", "OpenGL", str(error), remedy)
        return
    if frames.std() == 0:
        yield Check("warning", "OpenGL", f"{backend} draws nothing", remedy)
    else:
        yield Check("ok", "OpenGL", f"{backend}, {1000 * seconds / len(states):.1f} ms a frame of 320 x 320")


def display() -> Iterator[Check]:
    name = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or sys.platform.replace("linux", "")
    if name:
        yield Check("ok", "display", name)
    else:
        yield Check("warning", "display", "none: no window for comparing clips", "connect by ssh -X, or use an oracle")


def sqlite() -> Iterator[Check]:
    """Tries SQLite with the feedback store's own settings, in the current folder: network file systems differ."""
    stored, intact = [], False
    try:
        with tempfile.TemporaryDirectory(dir=".", prefix=".doctor-") as folder:
            for vote in (1, 2):  # the second time from the file alone
                with contextlib.closing(sqlite3.connect(f"{folder}/votes", isolation_level=None)) as connection:
                    connection.execute("PRAGMA journal_mode=DELETE")
                    connection.execute("PRAGMA synchronous=FULL")
                    connection.execute("CREATE TABLE IF NOT EXISTS votes (vote INTEGER)")
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("INSERT INTO votes VALUES (?)", (vote,))
                    connection.execute("COMMIT")
                    stored = connection.execute("SELECT vote FROM votes").fetchall()
                    intact = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = f"{sqlite3.sqlite_version}, keeps what it is told"
    except (OSError, sqlite3.Error) as error:
        found = f"cannot keep votes in {Path.cwd()}: {error}"
    if intact and stored == [(1,), (2,)]:
        yield Check("ok", "SQLite", found)
    else:
        yield Check("problem", "SQLite", found, "go to a folder on a local disk that you may write to")


def disk() -> Iterator[Check]:
    free = shutil.disk_usage(".").free / 1e9
    status = "ok" if free > 2 else "warning" if free > 0.2 else "problem"
    remedy = "" if status == "ok" else "free some space, or keep runs elsewhere with --out"
    yield Check(status, "disk space", f"{free:.1f} GB free in {Path.cwd()}", remedy)

    milliseconds = []
    try:
        with tempfile.NamedTemporaryFile(dir=".", prefix=".doctor-") as file:
            for _ in range(5):
                file.write(bytes(4096))
                file.flush()
                start = time.perf_counter()
                os.fsync(file.fileno())
                milliseconds.append(1000 * (time.perf_counter() - start))
    except OSError as error:
        yield Check("problem", "disk writes", f"{Path.cwd()}: {error.strerror}", "go to a folder that you may write to")
        return
    usual = statistics.median(milliseconds)
    if usual < 200:
        yield Check("ok", "disk writes", f"{usual:.1f} ms until one is safe")
    else:
        yield Check("warning", "disk writes", f"{usual:.0f} ms until one is safe", "keep runs on a local disk")


def processor() -> Iterator[Check]:
    import torch

    from rlhf_control.compute.threads import available_cores
    from rlhf_control.wording import counted

    cores = len(available_cores())
    threads = torch.get_num_threads()
    found = f"{counted(cores, 'core')}, {counted(threads, 'torch thread')}"
    if threads > cores:
        yield Check("warning", "processor", f"{found}: too many", f"export OMP_NUM_THREADS={cores}")
    else:
        yield Check("ok", "processor", found)


def tools() -> Iterator[Check]:
    from rlhf_control.compute import compiler
    from rlhf_control.rl import compiled as fast

    found = compiler.find_compiler()
    if found and fast.library() is not None:
        yield Check("ok", "C compiler", f"{found}, updates are compiled")
    else:
        found = f"{found}, which does not compile the update" if found else "none: updates are several times slower"
        yield Check("warning", "C compiler", found, "apt install gcc libc6-dev")
    if shutil.which("git"):
        version = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10).stdout
        yield Check("ok", "git", version.removeprefix("git version ").strip())
    else:
        yield Check("warning", "git", "none: runs cannot record the code's version", "apt install git")


EXAMINATIONS = (packages, pictures, display, disk, sqlite, processor, tools)
