"""Clips of a real store, drawn by real background processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.compute import gl
from rlhf_control.config import NetConfig
from rlhf_control.data import Query, Segments
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut_segments
from rlhf_control.rendering import cache as cache_module
from rlhf_control.rendering.cache import ClipCache, clip_size
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.rendering.mujoco_renderer import render_mujoco
from rlhf_control.simulation.make import mujoco_model
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs

needs_gl = pytest.mark.skipif(gl.choose_gl() == "none", reason="no OpenGL here")
SIZE = (96, 64)


def ask(run: Path, env_id: str, steps: int = 12, n: int = 10, frames: bool = False) -> list[str]:
    """A store of clips of this environment; their digests."""
    envs = start_envs(env_id, 2, seed=0, frames=frames)
    policy = Policy(envs.spaces, NetConfig((8,)), 0, env_id, {})
    rng = np.random.default_rng(0)
    clips = cut_segments(collect(envs, policy, (n // 2 + 1) * steps, rng), steps, rng)
    store = FeedbackStore(run / "labels.sqlite")
    asked = store.ask([Query(0, i, "uniform", clips[i : i + 1], "rating") for i in range(n)])
    return [query.clips[0] for query in asked]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache_module, "FIRST_PAUSE", 0.02)
    return tmp_path


@pytest.fixture
def digests(run: Path) -> list[str]:
    return ask(run, "HalfCheetah-v5")


@pytest.fixture
def without_gl(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MUJOCO_GL", "off")
    gl.choose_gl.cache_clear()
    yield
    gl.choose_gl.cache_clear()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)
    return value


def wait_for(cache: ClipCache, digests: Sequence[str], size: Any = SIZE, camera: int = 0) -> list[np.ndarray]:
    cache.request(digests, size, camera)
    until(lambda: all(cache.get(digest, size, camera) is not None for digest in digests))
    return [cache.get(digest, size, camera) for digest in digests]  # type: ignore[misc]


def renderer_of(cache: ClipCache) -> int:
    return until(lambda: [renderer._process.pid for renderer in cache._renderers])[0]


def files_of(run: Path) -> list[Path]:
    return sorted((run / "clips").glob("*.clip"))


def states_of(run: Path, digest: str) -> np.ndarray:
    state = FeedbackStore(run / "labels.sqlite").segments([digest])[digest].state
    assert state is not None
    return state


# -- what is shown


@needs_gl
def test_the_same_clip_is_the_same_bytes_from_everywhere(run: Path, digests: list[str]) -> None:
    """Drawn in this process, in a fresh renderer, in one that has drawn others, read from the disk, and drawn by a
    second process."""
    model = mujoco_model("HalfCheetah-v5", {})
    expected = [render_mujoco(model, states_of(run, d), width=SIZE[0], height=SIZE[1]) for d in digests[:3]]
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        first = wait_for(cache, digests[:3])
        wait_for(cache, digests[:2], (64, 96), 2)
        until(lambda: len(files_of(run)) == 5)
        assert cache.error() == "" and until(cache.cameras) == ["track", "side", "front", "top"]
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        second = wait_for(cache, digests[:3])
    for path in files_of(run):
        path.unlink()
    with ClipCache(run, "HalfCheetah-v5", {}, workers=2) as cache:
        third = wait_for(cache, digests[::-1])[-3:][::-1]
    for found in (first, second, third):
        for frames, same in zip(found, expected, strict=True):
            np.testing.assert_array_equal(frames, same)
            assert frames.flags.c_contiguous and not frames.flags.writeable


@needs_gl
def test_cameras_count_from_the_start_again(run: Path, digests: list[str]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        until(cache.cameras)  # known before anything is asked for
        pictures = [wait_for(cache, digests[:1], SIZE, camera)[0] for camera in range(5)]
    assert pictures[4] is pictures[0] and len({picture.tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize(("env_id", "frames", "shape"), [("Pendulum-v1", False, (64, 64)), ("Taxi-v4", True, (64, 75))])
def test_environments_without_mujoco(run: Path, env_id: str, frames: bool, shape: tuple[int, int]) -> None:
    (digest, *_) = ask(run, env_id, 6, 2, frames)
    with ClipCache(run, env_id, {}) as cache:
        (shown,) = wait_for(cache, [digest])
        assert shown.shape == (6, *shape, 3) and cache.error() == ""


def test_without_opengl_clips_are_plain_drawings(run: Path, digests: list[str], without_gl: None) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        (frames,) = wait_for(cache, digests[:1])
        assert "OpenGL does not work here; MUJOCO_GL=off turns it off." in cache.error()
    model = mujoco_model("HalfCheetah-v5", {})
    expected = draw_flat(model, states_of(run, digests[0]), width=SIZE[0], height=SIZE[1])
    np.testing.assert_array_equal(frames, expected)
    assert not files_of(run)


# -- when


@needs_gl
def test_the_nearest_come_first_and_wishes_replace_each_other(run: Path, digests: list[str]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        cache.request(digests, SIZE)
        until(lambda: cache._ready)
        cache.request(digests[:5:-1], SIZE)
        until(lambda: len(cache._ready) >= 6)
        order = [key[0] for key in cache._ready]
    taken_before = [digest for digest in digests[:6] if digest in order]
    assert len(taken_before) <= 3 and [d for d in order if d not in taken_before] == digests[:5:-1]


@needs_gl
def test_nothing_waits(run: Path, digests: list[str]) -> None:
    """While clips come in, and while the renderer is not there yet."""
    longest = 0.0
    started = time.perf_counter()
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        opened = time.perf_counter() - started
        while len(cache._ready) < len(digests):
            before = time.perf_counter()
            cache.request(digests, (320, 320))
            for digest in digests:
                cache.get(digest, (320, 320))
            cache.error()
            longest = max(longest, time.perf_counter() - before)
            time.sleep(0.001)
            assert before < started + 60
    assert opened < 2 and longest < 1  # some milliseconds, on a machine that does nothing else


@needs_gl
def test_what_the_memory_does_not_hold_is_drawn_onto_the_disk(run: Path, digests: list[str]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}, memory=1) as cache:
        cache.request(digests, SIZE)
        until(lambda: len(files_of(run)) == len(digests))
        assert [cache.get(digest, SIZE) is not None for digest in digests] == [True] * 6 + [False] * 4
        wait_for(cache, digests[6:])
        assert len(cache._ready) == 4


@needs_gl
def test_the_folder_stays_small(run: Path, digests: list[str]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}, disk=1) as cache:
        wait_for(cache, digests[:4])
        until(lambda: len(files_of(run)) == 1)


# -- what goes wrong


@needs_gl
@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: content[:-1] + b"x", lambda _: b""])
def test_damaged_files_are_drawn_again(run: Path, digests: list[str], damage: Callable[[bytes], bytes]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        (expected,) = wait_for(cache, digests[:1])
        (path,) = until(lambda: files_of(run))
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        np.testing.assert_array_equal(wait_for(cache, digests[:1])[0], expected)
        until(lambda: path.exists() and path.read_bytes() == content)


@needs_gl
def test_a_renderer_that_dies_is_started_again(run: Path, digests: list[str]) -> None:
    """Idle, and over its work."""
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        wait_for(cache, digests[:1])
        killed = renderer_of(cache)
        os.kill(killed, signal.SIGKILL)
        assert "was ended by SIGKILL; it is being restarted" in until(cache.error)
        until(lambda: cache._renderers and renderer_of(cache) != killed)
        until(lambda: cache.error() == "")
        cache.request(digests, SIZE)
        until(lambda: len(cache._ready) > 3)
        os.kill(renderer_of(cache), signal.SIGSEGV)
        assert len(wait_for(cache, digests)) == len(digests)
        assert cache.error() == ""


@needs_gl
def test_a_driver_that_crashes_is_done_without(run: Path, digests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    crash = (
        "import os; from rlhf_control.compute import gl; from rlhf_control.rendering import mujoco_renderer as r; "
        "draw = r.gl_context; "
        "r.gl_context = lambda model: draw(model) if gl.choose_gl() == 'none' else os._exit(3); "
    )
    monkeypatch.setattr(cache_module, "PROGRAM", crash + cache_module.PROGRAM)
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        (frames,) = wait_for(cache, digests[:1])
        assert "OpenGL does not work here" in cache.error()
    model = mujoco_model("HalfCheetah-v5", {})
    expected = draw_flat(model, states_of(run, digests[0]), width=SIZE[0], height=SIZE[1])
    np.testing.assert_array_equal(frames, expected)


def test_a_clip_that_is_deadly_does_not_stop_the_others(
    run: Path, digests: list[str], monkeypatch: pytest.MonkeyPatch, without_gl: None
) -> None:
    crash = (
        "import os; from rlhf_control.rendering.cache_process import Renderer; serve = Renderer._serve; "
        f"Renderer._serve = lambda self, job: os._exit(3) if job['digest'] == '{digests[0]}' else serve(self, job); "
    )
    monkeypatch.setattr(cache_module, "PROGRAM", crash + cache_module.PROGRAM)
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        cache.request(digests[:2], SIZE)
        until(lambda: cache.get(digests[1], SIZE) is not None)
        assert "dies over this one" in cache.failure(digests[0]) and cache.failure(digests[1]) == ""


def test_a_renderer_that_cannot_run_says_why(run: Path, digests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "PROGRAM", "raise SystemExit('the reason')")
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        cache.request(digests, SIZE)
        expected = "the process that draws the clips ended with code 1: the reason; it is being restarted"
        assert until(cache.error) == expected
    monkeypatch.setattr(sys, "executable", str(run / "python"))
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        assert "cannot be started: No such file" in until(cache.error)


@needs_gl
def test_a_full_disk_costs_nothing_but_time(run: Path, digests: list[str]) -> None:
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit here")
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(renderer_of(cache), resource.RLIMIT_FSIZE, (100, hard))  # the renderer's files end there
        wait_for(cache, digests[:2])
        assert "cannot be kept on the disk" in until(cache.error) and "free some space" in cache.error()
        assert cache.get(digests[0], SIZE) is not None and not files_of(run)
        assert not list((run / "clips").iterdir()), "nothing is left half written"
        resource.prlimit(renderer_of(cache), resource.RLIMIT_FSIZE, (hard, hard))
        wait_for(cache, digests[2:3])
        until(lambda: cache.error() == "")


@needs_gl
def test_a_clip_that_is_not_there_is_said_and_tried_again(
    run: Path, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "RETRY_SECONDS", 0.2)
    store = run / "labels.sqlite"
    store.rename(run / "elsewhere")
    with ClipCache(run, "HalfCheetah-v5", {}) as cache:
        cache.request(digests[:1], SIZE)
        assert "does not exist" in until(lambda: cache.failure(digests[0])) and "does not exist" in cache.error()
        (run / "elsewhere").rename(store)
        until(lambda: cache.get(digests[0], SIZE) is not None)
        assert cache.failure(digests[0]) == "" and cache.error() == ""
        cache.request(["0" * 64, digests[1]], SIZE)
        until(lambda: cache.get(digests[1], SIZE) is not None)  # the others are not held up
        assert "damaged" in cache.failure("0" * 64)


@needs_gl
def test_two_viewers_of_one_run(run: Path, digests: list[str]) -> None:
    with ClipCache(run, "HalfCheetah-v5", {}) as one, ClipCache(run, "HalfCheetah-v5", {}) as two:
        one.request(digests, SIZE)
        two.request(digests[::-1], SIZE)
        for a, b in zip(wait_for(one, digests), wait_for(two, digests), strict=True):
            np.testing.assert_array_equal(a, b)
        until(lambda: len(files_of(run)) == len(digests))
        assert one.error() == two.error() == ""


# -- the end


def test_closing_ends_everything(run: Path, digests: list[str]) -> None:
    cache = ClipCache(run, "HalfCheetah-v5", {}, workers=2)
    until(lambda: len(cache._renderers) == 2)
    processes = [renderer._process for renderer in cache._renderers]
    cache.request(digests, (320, 320))
    cache.close()
    cache.close()
    assert all(process.returncode is not None for process in processes)
    assert not [thread for thread in cache._threads[:-1] if thread.is_alive()]
    ClipCache(run, "HalfCheetah-v5", {}).close()  # before it has begun


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_renderer_dies_with_its_parent(run: Path, digests: list[str], how: signal.Signals) -> None:
    code = f"""
import pathlib, time
from rlhf_control.rendering.cache import ClipCache
cache = ClipCache(pathlib.Path({str(run)!r}), "HalfCheetah-v5", {{}})
cache.request({digests!r}, (480, 480))
while not cache._renderers: time.sleep(0.01)
print(cache._renderers[0]._process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with parent:
        assert parent.stdout
        renderer = int(parent.stdout.readline())
        time.sleep(0.5)
        assert running(renderer)
        parent.send_signal(how)
    until(lambda: not running(renderer), 5)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_viewer_imports_nothing_heavy() -> None:
    heavy = {"torch", "mujoco", "gymnasium", "pygame", "sqlite3", "PIL"}
    code = f"import sys, rlhf_control.rendering.cache; assert not {heavy!r} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sizes_are_bounded_and_come_in_steps() -> None:
    assert clip_size(620, 580) == (480, 480) and clip_size(350, 341) == (320, 320) and clip_size(10, 999) == (96, 96)


def test_segments_without_anything_to_draw(run: Path) -> None:
    nothing = np.zeros((1, 3, 1), np.float32)
    bare = Segments(nothing, nothing, nothing, nothing[..., 0])
    (asked,) = FeedbackStore(run / "labels.sqlite").ask([Query(0, 0, "uniform", bare, "rating")])
    with ClipCache(run, "Taxi-v4", {}) as cache:
        cache.request(asked.clips, SIZE)
        assert "neither simulator states nor pictures" in until(lambda: cache.failure(asked.clips[0]))
