"""Clips ready to be shown: drawn ahead of time by a process in the background, and kept on the disk.

A viewer asks for the clips it will show, the nearest first, and takes what is ready:

    with ClipCache(run, env_id, env) as cache:
        size = clip_size(480, 480)               # of the place on the screen, in pixels
        cache.request([digest, ...], size)       # replaces the wishes of before
        frames = cache.get(digest, size)         # (T, H, W, 3) uint8, or None while it is not ready

T time, H height, W width. The T frames lie evenly over the clip: a clip of L steps lasts L * step_seconds, whatever T
is. MuJoCo fills the size asked for; other environments keep their own proportions within it. Frames are read-only and
contiguous, so that `pygame.image.frombuffer(frames[t], (W, H), "RGB")` needs no copy.
"""

import fcntl
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rlhf_control.compute.gl import choose_gl
from rlhf_control.compute.processes import python
from rlhf_control.data import Array

SMALLEST, LARGEST = 96, 480  # pixels: larger clips take longer to draw than they gain; the viewer enlarges them
MEMORY = 2**29  # bytes of frames
ALWAYS = 6  # clips, the nearest ones, that are kept in memory however large they are
RETRY_SECONDS = 5.0  # until a clip that could not be shown is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds until a renderer that died is started again, doubled each time
HEALTHY_SECONDS = 20.0  # a renderer that lived so long did not die of what killed the one before
CRASHES = 3  # in a row, after which clips are drawn without OpenGL
DEADLY = 5  # deaths over one clip, after which the others come first
PROGRAM = "from rlhf_control.rendering.cache_process import main; main()"
PIPE_BYTES = 2**20  # of Linux's default of 2**16, 15 MB would come in 240 pieces

Size = tuple[int, int]
Key = tuple[str, Size, int]  # digest, size, camera


def clip_size(width: int, height: int) -> Size:
    """Returns the (width, height) at which to draw a clip for a place of this size: not larger than LARGEST, and in
    steps, so that a window that is being resized does not ask for every size in between."""
    side = min(LARGEST, max(SMALLEST, min(width, height) // 32 * 32))
    return side, side


@dataclass(frozen=True)
class ClipJob:
    key: Key
    deliver: bool  # otherwise it is only to be drawn onto the disk


class ClipCache:
    """Draws and keeps the clips of one run. Close it, or use it in a `with`."""

    def __init__(
        self,
        run: Path,
        env_id: str,
        env: Mapping[str, Any],
        *,
        workers: int = 1,
        disk: int = 500_000_000,
        memory: int = MEMORY,
    ) -> None:
        """Starts the processes. `disk` is how many bytes of RUN/clips to use at most; the clips that were not looked at
        for longest go."""
        self._setup = {"run": str(Path(run).absolute()), "env_id": env_id, "env": dict(env), "disk": disk}
        self._memory = memory
        self._lock = threading.RLock()  # of all below
        self._closed = threading.Event()
        self._backend = ""  # of OpenGL, when it is known
        self._wishes: list[Key] = []
        self._ready: OrderedDict[Key, Array] = OrderedDict()  # the ones looked at last at the end
        self._on_disk: set[Key] = set()  # drawn, but not for the memory
        self._failures: dict[str, tuple[str, float]] = {}  # digest -> why, and when to try again
        self._deaths = Counter[Key]()  # over a clip
        self._problems: dict[str, str] = {}  # what with -> what is wrong
        self._cameras: list[str] = []
        self._renderers: list[_Renderer] = []
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._threads = [*threads, threading.Thread(target=self._find_gl, daemon=True)]
        for thread in self._threads:
            thread.start()

    # -- for the viewer; nothing here waits

    def request(self, digests: Sequence[str], size: Size, camera: int = 0) -> None:
        """Orders these clips, the nearest first. They replace the wishes of before; what was ready stays so as long as
        there is memory. Returns at once."""
        with self._lock:
            self._wishes = [self._key(digest, size, camera) for digest in digests]
            self._feed()

    def get(self, digest: str, size: Size, camera: int = 0) -> Array | None:
        """Returns its frames (T, H, W, 3) uint8, or None as long as they are not ready. Returns at once."""
        with self._lock:
            key = self._key(digest, size, camera)
            frames = self._ready.get(key)
            if frames is not None:
                self._ready.move_to_end(key)
            elif digest in self._failures:
                self._feed()  # it may be time to try again
            return frames

    def failure(self, digest: str) -> str:
        """Says why this clip could not be shown (it is damaged, or of another environment), or "". It is tried again
        every few seconds."""
        with self._lock:
            return self._failures.get(digest, ("", 0.0))[0]

    def error(self) -> str:
        """Says what is wrong at the moment, for the person at the screen (the renderer died and is being restarted, the
        disk is full, OpenGL does not work so that clips are plain drawings, a clip cannot be shown), or ""."""
        with self._lock:
            known = [self._problems.get(about, "") for about in ("renderer", "disk", "gl")]
            failed = [self._failures[key[0]][0] for key in self._wishes if key[0] in self._failures]
            return next(filter(None, [known[0], *failed, *known[1:]]), "")

    def cameras(self) -> list[str]:
        """Names the cameras, the default first; empty until they are known. Numbers beyond count from 0 again."""
        with self._lock:
            return list(self._cameras)

    def close(self) -> None:
        """Ends the background processes. Twice does no harm."""
        self._closed.set()
        with self._lock:
            renderers = list(self._renderers)
        for renderer in renderers:
            renderer.kill()
        for thread in self._threads[:-1]:  # the last one may be trying drivers; it ends with the process
            thread.join(5)

    def __enter__(self) -> "ClipCache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what to do next

    def _key(self, digest: str, size: Size, camera: int) -> Key:
        return digest, (int(size[0]), int(size[1])), camera % len(self._cameras) if self._cameras else camera

    def _feed(self) -> None:
        """Gives every idle renderer the next job."""
        for renderer in self._renderers:
            if renderer.job is None and (job := self._choose()):
                renderer.take(job)

    def _choose(self) -> ClipJob | None:
        """Returns the nearest clip that is wanted and neither there nor being drawn. What the memory does not hold is
        drawn onto the disk, from where it comes ten times as fast."""
        taken = {renderer.job.key for renderer in self._renderers if renderer.job}
        largest = max((frames.nbytes for frames in self._ready.values()), default=0)
        room = self._memory
        for place, key in enumerate(self._wishes):
            frames = self._ready.get(key)
            room -= largest if frames is None else frames.nbytes
            failed = key[0] in self._failures and time.monotonic() < self._failures[key[0]][1]
            if frames is not None or key in taken or failed:
                continue
            deliver = place < ALWAYS or room >= 0
            if deliver or key not in self._on_disk:
                return ClipJob(key, deliver)
        return None

    def _make_room(self) -> None:
        """Lets go of frames that exceed the memory: first those that nobody wants, then the furthest."""
        near = [key for key in self._wishes if key in self._ready]
        rest = [key for key in reversed(self._ready) if key not in set(near)]
        room = self._memory
        for place, key in enumerate([*near, *rest]):
            room -= self._ready[key].nbytes
            if room < 0 and place >= min(ALWAYS, len(near)):
                del self._ready[key]

    # -- the threads: one finds out about OpenGL, one stands by each renderer

    def _find_gl(self) -> None:
        backend = choose_gl()
        with self._lock:
            self._backend = backend
            for renderer in self._renderers:
                renderer.send({"gl": backend})

    def _work(self) -> None:
        """Keeps a renderer running and takes what it gives, until the cache is closed."""
        crashes = 0  # in a row
        while not self._closed.is_set():
            try:
                renderer = _Renderer(self._setup)
            except OSError as error:
                crashes, reason = crashes + 1, f"cannot be started: {error.strerror or error}"
            else:
                crashes, reason = self._stand_by(renderer, crashes)
            if not self._closed.is_set():
                with self._lock:
                    self._problems["renderer"] = f"the process that draws the clips {reason}; it is being restarted"
                self._closed.wait(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (crashes - 1)))

    def _stand_by(self, renderer: "_Renderer", crashes: int) -> tuple[int, str]:
        """Serves a renderer as long as it lives; how many in a row have died then, and of what."""
        with self._lock:
            self._renderers.append(renderer)
            backend = "none" if crashes >= CRASHES else self._backend
            if backend:
                renderer.send({"gl": backend})
            self._feed()
        if self._closed.is_set():
            renderer.kill()
        while (answer := renderer.answer()) is not None:
            with self._lock:
                if self._take(renderer, *answer):
                    crashes = 0
        with self._lock:
            self._renderers.remove(renderer)
            if renderer.job:
                self._mourn(renderer.job.key)
        reason = renderer.bury()
        return 1 if renderer.seconds() > HEALTHY_SECONDS else crashes + 1, reason

    def _take(self, renderer: "_Renderer", answer: dict[str, Any], frames: Array | None) -> bool:
        """Takes in one answer of a renderer; returns whether it is a clip."""
        if "hello" in answer and renderer.job is None:
            self._problems.pop("renderer", None)
        if "cameras" in answer:
            self._cameras = answer["cameras"]
        if "disk" in answer:
            self._problems["disk"] = answer["disk"] and (
                f"clips cannot be kept on the disk ({answer['disk']}), so they are drawn anew every time; free some "
                "space"
            )
        if renderer.job is None or not answer.keys() & {"failed", "frames"}:
            return False
        key, renderer.job = renderer.job.key, None
        self._problems.pop("renderer", None)
        if "failed" in answer:
            self._failures[key[0]] = (answer["failed"], time.monotonic() + RETRY_SECONDS)
        else:
            self._problems["gl"] = answer["notice"]
            self._failures.pop(key[0], None)
            self._deaths.pop(key, None)
            self._on_disk.add(key)
            if frames is not None:
                self._ready[key] = frames
                self._make_room()
        self._feed()
        return True

    def _mourn(self, key: Key) -> None:
        """Notes that a renderer died over this clip."""
        self._deaths[key] += 1
        if self._deaths[key] >= DEADLY:
            why = "the process that draws the clips dies over this one"
            self._failures[key[0]] = (why, time.monotonic() + 10 * RETRY_SECONDS)


class _Renderer:
    """A process of `cache_process`, seen from here."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.job: ClipJob | None = None  # that it is at
        self._started = time.monotonic()
        with ExitStack() as stack:
            self._errors: IO[bytes] | None = None
            with suppress(OSError):  # if the disk is full, nobody learns why it died
                self._errors = stack.enter_context(tempfile.TemporaryFile())
            # Not in the terminal's foreground, so that Ctrl-C does not reach it.
            self._process = subprocess.Popen(
                python(PROGRAM), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._errors or subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            stack.pop_all()  # from here on, `bury` closes it
        assert self._process.stdin and self._process.stdout
        self._orders, self._answers = self._process.stdin, self._process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):
                fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.send(setup)

    def send(self, order: Mapping[str, Any]) -> None:
        with suppress(OSError, ValueError):  # it is dead; whoever reads its answers notices
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()

    def take(self, job: ClipJob) -> None:
        self.job = job
        digest, size, camera = job.key
        self.send({"digest": digest, "size": size, "camera": camera, "deliver": job.deliver})

    def answer(self) -> tuple[dict[str, Any], Array | None] | None:
        """Returns the next answer and, if it has any, the frames (T, H, W, 3), read-only; None if it died."""
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            return None
        answer = json.loads(line)
        if not answer.get("frames"):
            return answer, None
        frames = np.empty(answer["frames"], np.uint8)
        if self._answers.readinto(frames.data.cast("B")) < frames.nbytes:  # type: ignore[attr-defined]
            return None
        frames.setflags(write=False)
        return answer, frames

    def seconds(self) -> float:
        """Tells how long ago it was started."""
        return time.monotonic() - self._started

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> str:
        """Cleans up after the process, and says how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._orders, self._answers):
            with suppress(OSError):
                pipe.close()
        lines = []
        if self._errors is not None:
            self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, self._errors.tell() - 2000))
            lines = self._errors.read().decode(errors="replace").split("\n")
            self._errors.close()
        last = next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"{how}: {last}" if last and code > 0 else how
