"""C code of ours, compiled for this machine when it is first needed, and kept for the next time."""

import atexit
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import Array

ALIGNMENT = 64
INT, DOUBLE, POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p

# Neither flag changes a result: errno and the floating-point exception flags are never read. Sums keep their order.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
LIBRARIES = ("-lm", "-lpthread")


@cache
def load(source: Path, *definitions: str, work: str = "updates") -> ctypes.CDLL | None:
    """Returns the library made of a C file, or None, said once, where that is impossible: then `work` is slower. It
    takes a second, the first time."""
    compiler = compiler_command()
    if not compiler:
        print(f"rlhf-control: no C compiler, so {work} are several times slower; install gcc", file=sys.stderr)
        return None
    command = [*compiler, *FLAGS, *(f"-D{d}" for d in definitions)]
    try:
        return ctypes.CDLL(str(_built(command, source)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        lines = said.strip().splitlines() or [repr(error)]
        line = next((line for line in lines if "error" in line), lines[0])
        print(f"rlhf-control: {work} are several times slower: {source.name} did not compile: {line}", file=sys.stderr)
        return None


def find_compiler() -> str | None:
    """Returns the path of $CC, or of the first of the usual ones."""
    return next(iter(compiler_command()), None)


def compiler_command() -> list[str]:
    """Returns the compiler's path and the flags of $CC, which often has some; empty without a compiler."""
    chosen = os.environ.get("CC", "")
    try:
        name, *flags = shlex.split(chosen) or [""]
    except ValueError:  # a quotation that does not end
        name, flags = chosen, []
    if path := shutil.which(name):
        return [path, *flags]
    usual = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if name and usual:
        _say_once(f"rlhf-control: there is no C compiler {name} ($CC), so {usual} is used; correct $CC")
    return [usual] if usual else []


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def _built(command: list[str], source: Path) -> Path:
    """The library's file, which is named after all that decides its content."""
    key = "\n".join([*command, compiler_version(), processor(), source.read_text()])
    library = cache_folder() / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not _whole(library):
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:  # in the same file system, to be renamed
            made = Path(folder) / library.name
            whole = [*command, "-o", str(made), str(source), *LIBRARIES]
            subprocess.run(whole, capture_output=True, text=True, check=True, timeout=120)
            made.chmod(0o700)
            with open(made, "ab") as file:
                file.write(hashlib.sha256(made.read_bytes()).digest())  # a loader does not mind what follows
                file.flush()
                os.fsync(file.fileno())
            made.replace(library)
    return library


def _whole(library: Path) -> bool:
    """Whether the file is there, ours, and ends with the SHA-256 of what comes before: loading a cut one can kill the
    process."""
    try:
        if not _ours(library):
            return False
        content = library.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def _ours(path: Path) -> bool:
    """Whether this user alone can have put there what is there."""
    status = os.lstat(path)
    kind = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return kind and status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def compiler_version() -> str:
    """Returns the first line of what the compiler says about itself; "none" without one. It too decides the last
    bits."""
    command = compiler_command()
    if not command:
        return "none"
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return command[0]
    return (said.splitlines() or command)[0]


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/rlhf_control, ~/.cache/rlhf_control, or a folder of this process where neither can be
    written, or others could put code there."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf_control"
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _ours(base):
            _say_once(f"rlhf-control: {base} is another user's, or others may write to it, so code is compiled anew")
        elif os.access(base, os.W_OK):
            return base
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        pass
    return _folder_of_this_process()


@cache
def _folder_of_this_process() -> Path:
    """A temporary folder, removed at exit."""
    folder, maker = Path(tempfile.mkdtemp(prefix="rlhf_control-")), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # a forked child leaves its parent's alone
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def processor() -> str:
    """Returns what -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Makes zeros that start at a multiple of ALIGNMENT bytes: loads across cache lines are slower."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
