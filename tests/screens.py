"""A real X server for the tests that press real keys."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

MISSING = [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]
on_a_screen = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")


@contextmanager
def a_screen() -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """An X server of its own; the environment that names it, and its process."""
    reading, writing = os.pipe()
    # Else the server begins anew whenever its last client leaves, and turns a window away that comes just then
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x720x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[writing], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as pipe:
        display = f":{pipe.readline().strip()}"
    try:
        yield {"DISPLAY": display, "SDL_VIDEODRIVER": "x11"}, server
    finally:
        server.kill()
        server.wait()


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
