"""The background process of `rendering.cache`: takes orders for clips by a pipe, and gives frames by another.

Orders are lines of JSON on stdin: first {"run", "env_id", "env", "disk"}, then {"gl": backend} once, when it is known,
and {"digest", "size", "camera", "deliver"} for each clip. Answers are lines of JSON on stdout: {"hello": pid}; for each
clip in its turn {"frames": shape, "notice"}, followed by the frames' bytes, or {"frames": null, "notice"} if they were
not to be delivered, or {"failed": why}; and, whenever they are known, {"cameras": names} and {"disk": problem or ""}.
When stdin ends, the parent is gone, however it went, and so is this process at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rlhf_control.compute.gl import settle_gl
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.rendering.cache_files import ClipFiles
from rlhf_control.runs.files import write_atomic

if TYPE_CHECKING:
    from rlhf_control.feedback.store import FeedbackStore
    from rlhf_control.rendering.clips import ClipRenderer


VERSION = 1  # of the drawings: to be raised when the same clip shall look different
CAMERAS = "cameras.json"  # beside the clips: how they look, and the names of the cameras
UNSAVED = 3  # clips that may wait for the disk; the next one is drawn meanwhile


class Renderer:
    """Serves one order after the other, from the disk where a clip was drawn before."""

    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self._orders, self._answers, self._answering = orders, answers, threading.Lock()
        setup = json.loads(orders.readline())
        self._run, self._env_id, self._env = Path(setup["run"]), setup["env_id"], setup["env"]
        self._files = ClipFiles(self._run / "clips", setup["disk"])
        self._appearance = [self._env_id, self._env, VERSION, version("mujoco"), version("gymnasium")]
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._unsaved: queue.Queue[tuple[Array, list[Any]]] = queue.Queue(UNSAVED)
        self._gl_known = threading.Event()
        self._renderer: ClipRenderer | None = None
        self._tried = self._kept = False  # to tell what cameras there are, and to keep it
        self._store: FeedbackStore | None = None

    def serve(self) -> None:
        for work in (self._listen, self._save):
            threading.Thread(target=work, daemon=True).start()
        self._answer({"hello": os.getpid()})
        self._remember_cameras()
        import gymnasium  # noqa: F401  # while the parent finds out about OpenGL

        while True:
            try:
                self._serve(self._jobs.get(timeout=None if self._tried else 0.05))
            except queue.Empty:
                if self._gl_known.is_set():  # nothing is wanted: import what will be needed, and make the environment
                    self._tell_cameras()

    def _listen(self) -> None:
        for line in self._orders:
            order = json.loads(line)
            if "gl" in order:
                settle_gl(order["gl"])
                self._gl_known.set()
            else:
                self._jobs.put(order)
        os._exit(0)

    def _tell_cameras(self) -> None:
        self._tried = True
        with suppress(Exception):  # the clips will say what is wrong
            self._answer({"cameras": self._get_renderer().cameras})

    def _remember_cameras(self) -> None:
        """Takes up what a renderer before has kept: where all clips are on the disk, no environment is made for a
        while."""
        with suppress(OSError, ValueError):
            appearance, names = json.loads((self._files.folder / CAMERAS).read_bytes())
            if appearance == self._appearance and all(isinstance(name, str) for name in names):
                self._answer({"cameras": names})

    def _keep_cameras(self) -> None:
        """Beside the clips that it has drawn."""
        if self._renderer is not None and not self._kept:
            self._kept = True
            with suppress(UserError):  # a full disk is told with the clips
                write_atomic(
                    self._files.folder / CAMERAS, json.dumps([self._appearance, self._renderer.cameras]).encode()
                )

    def _get_renderer(self) -> ClipRenderer:
        if self._renderer is None:
            self._gl_known.wait()
            from rlhf_control.rendering.clips import ClipRenderer  # now that MUJOCO_GL is known

            self._renderer = ClipRenderer(self._env_id, self._env)
        return self._renderer

    def _serve(self, job: dict[str, Any]) -> None:
        digest, size, camera = job["digest"], tuple(job["size"]), job["camera"]
        try:
            frames = self._frames(digest, size, camera, job["deliver"])
        except UserError as error:
            self._answer({"failed": str(error)})
        except Exception as error:  # whatever is wrong with this clip, the next one may be well
            self._answer({"failed": f"{type(error).__name__}: {error}"})
        else:
            notice = self._renderer.notice if self._renderer else ""
            self._answer({"frames": None if frames is None else frames.shape, "notice": notice}, frames)

    def _frames(self, digest: str, size: tuple[int, int], camera: int, deliver: bool) -> Array | None:
        """Returns the frames, or None if they are not to be delivered and will be on the disk."""
        key = [*self._appearance, digest, size, camera]
        if not deliver and self._files.has(*key):
            return None
        frames = self._files.read(*key)
        if frames is not None:
            return frames if deliver else None
        clip = self._clip(digest)
        renderer = self._get_renderer()
        if clip.state is not None and not self._tried:  # else it is a picture, and there may be no environment
            self._tell_cameras()
        frames = renderer.draw(clip, *size, camera=camera)
        if renderer.notice or clip.frames is not None:  # quickly made; the former is not what others want to see
            return frames
        self._unsaved.put((frames, key))
        return frames if deliver else None

    def _clip(self, digest: str) -> Segments:
        from rlhf_control.feedback.store import FeedbackStore

        if self._store is None:
            self._store = FeedbackStore(self._run / "labels.sqlite", create=False)
        return self._store.segments([digest])[digest]

    def _save(self) -> None:
        while True:
            frames, key = self._unsaved.get()
            problem = ""
            try:
                self._files.write(frames, *key)
                self._keep_cameras()
            except OSError as error:
                problem = f"{self._files.folder}: {error.strerror or error}"
            self._answer({"disk": problem})

    def _answer(self, message: dict[str, Any], frames: Array | None = None) -> None:
        with self._answering:
            self._answers.write(json.dumps(message).encode() + b"\n")
            if frames is not None:
                self._answers.write(frames.data)
            self._answers.flush()


def main() -> None:
    """Runs the process. Whatever libraries print to stdout goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ.update(PYGAME_HIDE_SUPPORT_PROMPT="1", SDL_VIDEODRIVER="dummy", SDL_AUDIODRIVER="dummy")
    with suppress(OSError):
        os.nice(2)  # the window, which has frames to show on time, comes first
    with suppress(BrokenPipeError):
        Renderer(sys.stdin.buffer, answers).serve()
    os._exit(0)  # the parent is gone; MuJoCo would free its context after the display
