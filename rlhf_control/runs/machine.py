"""The machine that a run runs on: signals, versions, processor, commit."""

import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rlhf_control.compute.compiler import compiler_version
from rlhf_control.compute.threads import available_cores

PACKAGES = ("rlhf_control", "torch", "numpy", "gymnasium", "mujoco", "stable_baselines3")


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Defers signals. Within, the first SIGINT or SIGTERM only appends its number to the list that is handed out, for
    the loop to save and stop. A second one exits at once."""
    caught: list[int] = []

    def handle(signum: int, frame: object) -> None:
        if caught:
            os._exit(128 + signum)
        caught.append(signum)
        os.write(2, b"rlhf-control: saving, then stopping (once more to stop at once)\n")  # print is not reentrant

    old = {}
    try:
        for s in (signal.SIGINT, signal.SIGTERM):
            old[s] = signal.signal(s, handle)
    except ValueError:  # not the main thread: signals are somebody else's business
        pass
    try:
        yield caught
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def environment_facts() -> dict[str, Any]:
    """Returns what else decides the numbers: versions, commit, processor, when."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "compiler": compiler_version(),
        "threads": {"torch": 1, "blas": 1},  # see nets.one_thread; MuJoCo's threads, one a core, do not change a bit
        "cores": len(available_cores()),
        "versions": versions,
    }


def processor_name() -> str:
    """Returns the processor's name as Linux has it, or what Python knows."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str:
    """Returns the commit of the checkout this package runs from, with + where it has uncommitted changes; "unknown"
    where it is not in one, whatever repository it may be installed inside."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here)]
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True, timeout=5)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
