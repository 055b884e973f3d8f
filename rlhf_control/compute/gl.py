"""MuJoCo's ways to OpenGL. This file imports no simulator, because MuJoCo binds itself to one of them on import."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rlhf_control.errors import UserError

if TYPE_CHECKING:
    import mujoco


BACKENDS = ("egl", "osmesa", "glfw")  # the first two need no display
OFF = ("disable", "disabled", "off", "false", "0")  # what MuJoCo understands as "no OpenGL" in MUJOCO_GL


class NoGLError(UserError):
    """Says that OpenGL does not work here."""


# Runs in a process of its own, because a broken driver may crash it and PyOpenGL is bound to the first platform it
# meets. Leaves without cleaning up: MuJoCo would free the context after its display.
PROBE = """
import os, mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_50)
os._exit(0)
"""


_settled: list[str] = []


def settle_gl(backend: str) -> None:
    """Takes over what `choose_gl` found in another process. To be called before MuJoCo is imported."""
    _settled.append(backend)
    if backend in BACKENDS:
        os.environ["MUJOCO_GL"] = backend


@functools.cache
def choose_gl() -> str:
    """Finds the OpenGL backend that works here, by trying (about 0.5 s, once): "egl", "osmesa", "glfw", or "none".

    One that MUJOCO_GL names is taken untried. If it names none, it is set to the answer, so that Gymnasium's renderer
    and child processes follow.
    """
    if _settled:
        return _settled[-1]
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in BACKENDS:
        return chosen
    if chosen in OFF:
        return "none"
    for backend in BACKENDS if has_display() else BACKENDS[:2]:
        command, environment = [sys.executable, "-P", "-c", PROBE], {**os.environ, "MUJOCO_GL": backend}
        try:
            probe = subprocess.run(command, env=environment, capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
    return "none"


def has_display() -> bool:
    """Tells whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextlib.contextmanager
def gl_context(model: mujoco.MjModel) -> Iterator[tuple[mujoco.MjrContext, Callable[[], None]]]:
    """Makes an OpenGL context that is current in this thread. Yields what `mjr_render` needs in it, and a function that
    makes it current again after others; it is freed afterwards."""
    import mujoco

    backend = choose_gl()
    if backend == "none":
        off = os.environ.get("MUJOCO_GL")
        remedy = f"MUJOCO_GL={off} turns it off" if off else "try apt install libegl1 libgl1-mesa-dri"
        raise NoGLError(f"OpenGL does not work here; {remedy}")
    try:
        # Not mujoco.GLContext: that one was chosen when mujoco was imported, which is long ago.
        platform = importlib.import_module(f"mujoco.{backend}")
        window = platform.GLContext(model.vis.global_.offwidth, model.vis.global_.offheight)
        window.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    except Exception as error:  # each backend fails in its own ways
        raise NoGLError(f"MUJOCO_GL={backend} does not work here ({error}); unset it to try the others") from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    try:
        yield context, window.make_current
    finally:
        window.make_current()
        context.free()
        window.free()
