"""Python processes of ours that find their modules where this one does, but nothing in the folder they are started from
before what is installed: a file there that bears a dependency's name is not run."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # in a process's environment: neither the script's folder nor the current one


def python(code: str, *arguments: str) -> list[str]:
    """Returns the command that runs this code, for which `sys` is imported, in a process of its own."""
    return [sys.executable, "-P", "-c", f"import sys; sys.path[:] = {module_path()!r}; {code}", *arguments]


def module_path() -> list[str]:
    """Returns `sys.path` with the current folder last, if it is there at all: an environment's module may lie in it. So
    may this package, in a checkout that is not installed."""
    here, package = os.getcwd(), str(Path(__file__).parents[2])
    installed = [entry for entry in sys.path if entry and not same_folder(entry, here)]
    package_path = [] if package in installed else [package]
    return [*installed, *package_path, *([here] if len(installed) < len(sys.path) else [])]


def same_folder(a: str, b: str) -> bool:
    """Tells whether both paths lead to one folder."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


@contextmanager
def safe_path() -> Iterator[None]:
    """Has processes that `multiprocessing` spawns within look for modules as those of `python` do."""
    before, path = os.environ.get("PYTHONSAFEPATH"), list(sys.path)
    os.environ.update(SAFE_PATH)
    sys.path[:] = module_path()
    try:
        yield
    finally:
        sys.path[:] = path
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
