"""Drawing with the real simulator; the tests of OpenGL are skipped where there is none."""

import gc
import itertools
import os
import subprocess
import sys
import threading

import gymnasium
import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from rlhf_control import clips
from rlhf_control.errors import UserError

needs_gl = pytest.mark.skipif(clips.choose_gl() == "none", reason="no OpenGL here")


@pytest.fixture(scope="module")
def model():
    return clips.mujoco_model("HalfCheetah-v5", {})


@pytest.fixture(scope="module")
def states():
    """(12, 18) of a cheetah that thrashes about."""
    env = gymnasium.make("HalfCheetah-v5")
    env.reset(seed=0)
    env.action_space.seed(0)
    rows = []
    for _ in range(12):
        env.step(env.action_space.sample())
        rows.append(np.concatenate([env.unwrapped.data.qpos, env.unwrapped.data.qvel]))
    env.close()
    return np.stack(rows)


@pytest.fixture
def without_gl(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    clips.choose_gl.cache_clear()
    clips._say_once.cache_clear()
    yield
    clips.choose_gl.cache_clear()


# imageio's reader does not close its pipes.
reads_video = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def gray(number: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((number, height, width, 3), 100, np.uint8)


# -- OpenGL


def run(code: str, **environment: str) -> str:
    keep = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**keep, **environment}, capture_output=True, text=True, check=True).stdout


@needs_gl
def test_a_backend_is_found_after_mujoco_was_imported():
    code = "import mujoco, os; from rlhf_control import clips; print(clips.choose_gl(), os.environ['MUJOCO_GL'])"
    found, variable = run(code).split()
    assert found == variable == clips.choose_gl()


def test_a_broken_backend_is_not_chosen(tmp_path):
    code = "from rlhf_control import clips; print(clips.choose_gl())"
    assert run(code, __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path)).strip() != "egl"


@pytest.mark.parametrize(("variable", "expected"), [("osmesa", "osmesa"), ("EGL ", "egl"), ("off", "none")])
def test_what_the_user_chose_is_not_tried(monkeypatch, variable, expected):
    monkeypatch.setenv("MUJOCO_GL", variable)
    assert clips.choose_gl.__wrapped__() == expected


@needs_gl
def test_two_drawings_are_byte_identical(model, states):
    frames = clips.render_mujoco(model, states)
    assert frames.shape == (12, 320, 320, 3) and frames.dtype == np.uint8
    assert np.array_equal(clips.render_mujoco(model, states), frames)
    assert np.array_equal(clips.render_mujoco(model, states[::-1])[::-1], frames), "a frame depends on the one before"
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


@needs_gl
def test_any_thread_may_draw(model, states):
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.append(clips.render_mujoco(model, states[:2]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = clips.render_mujoco(model, states[:2])
    assert len(drawn) == 2 and all(np.array_equal(frames, here) for frames in drawn)


@needs_gl
def test_the_floor_does_not_end(model, states):
    _, period = clips._floors(model)  # 80 m, 60 repeats of two tiles
    np.testing.assert_allclose(period, [[80 / 60, 80 / 60]])
    far = states[:2].copy()
    far[:, 0] += 400 * period[0, 0]
    difference = clips.render_mujoco(model, far).astype(int) - clips.render_mujoco(model, states[:2])
    assert np.abs(difference).mean() < 0.1
    far[:, 0] += 0.3
    difference = clips.render_mujoco(model, far).astype(int) - clips.render_mujoco(model, states[:2])
    assert np.abs(difference).mean() > 3, "the tiles do not move"


@needs_gl
def test_the_callers_model_stays_as_it_is(model, states):
    before = model.vis.quality.offsamples, model.vis.global_.offwidth, model.cam_fovy.tolist(), model.geom_pos.tolist()
    assert clips.render_mujoco(model, states[:1], width=700, height=100).shape == (1, 100, 700, 3)
    after = model.vis.quality.offsamples, model.vis.global_.offwidth, model.cam_fovy.tolist(), model.geom_pos.tolist()
    assert after == before


@pytest.mark.parametrize("draw", [pytest.param(clips.render_mujoco, marks=needs_gl), clips.draw_flat])
@pytest.mark.parametrize(
    ("env_id", "follows", "top"),
    [("Ant-v5", True, False), ("Swimmer-v5", True, True), ("Reacher-v5", False, True), ("Pusher-v5", False, False)],
)
def test_every_model_is_seen_moving(draw, env_id, follows, top):
    model = clips.mujoco_model(env_id, {})
    view = clips._view(model)
    assert (view.follows, view.top) == (follows, top)
    states = np.zeros((2, model.nq + model.nv))
    states[:, : model.nq] = model.qpos0
    states[1, model.jnt_qposadr[model.jnt_type == 3]] += 0.4  # rad, every hinge
    still, moved = draw(model, states).astype(int)
    changed = (still != moved).any(-1)
    assert changed[80:240, 80:240].sum() > 100


# -- without OpenGL


def test_the_flat_drawing_follows_the_body_and_the_floor_passes(model, states):
    shifted = states[[0, 0]].copy()
    shifted[1, 0] += 0.2  # m
    first, second = clips.draw_flat(model, shifted, width=300, height=200).astype(int)
    assert first.shape == (200, 300, 3)
    rows = np.flatnonzero((first != second).any((1, 2)))
    floor = np.flatnonzero((first == clips.INK).all(-1).mean(1) > 0.9)
    assert len(rows) and rows.min() >= floor.min(), "only the floor moves"

    # A tile's edge, a place in the world, moves to the left by 0.2 m.
    scale = 200 / (2.7 * clips._view(model).radius)  # pixels a metre
    row = floor.max() + 4
    edges = [np.flatnonzero((frame[row] == clips.TILE).all(-1)) for frame in (first, second)]
    ends = [{int(i) for i in edge if i + 1 not in edge and i < 299} for edge in edges]
    expected = min(ends[0]) - 0.2 * scale
    assert min(abs(end - expected) for end in ends[1]) <= 2


def test_the_flat_drawing_shows_the_body_the_right_way_round(model):
    state = np.zeros((1, 18))
    frame = clips.draw_flat(model, state)[0].astype(int)
    floor = np.flatnonzero((frame == clips.INK).all(-1).mean(1) > 0.9).min()
    body = (np.abs(frame[:floor] - (204, 153, 102)).max(-1) < 8) | (np.abs(frame[:floor] - (229, 153, 153)).max(-1) < 8)
    rows, columns = np.nonzero(body)
    assert columns[rows.argmin()] > columns.mean(), "the head is in front, to the right"
    assert rows.max() > floor - 30, "it stands on the floor"


def test_render_falls_back_and_says_so_once(without_gl, model, states, capsys):
    frames = clips.render(model, states[:2])
    clips.render(model, states[:2])
    assert np.array_equal(frames, clips.draw_flat(model, states[:2]))
    assert capsys.readouterr().err == (
        "OpenGL does not work here; MUJOCO_GL=off turns it off. Until then clips are plain drawings.\n"
    )


def test_an_unset_gl_that_does_not_work_is_an_error_of_ours(without_gl, model, states):
    with pytest.raises(clips.NoGLError, match="OpenGL does not work here"):
        clips.render_mujoco(model, states)


# -- models


def test_models_are_made_once():
    assert clips.mujoco_model("Hopper-v5", {}) is clips.mujoco_model("Hopper-v5", {})


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPole-v1", {}, "not a MuJoCo environment"),
        ("HalfCheeta-v5", {}, "did you mean HalfCheetah-v5"),
        ("HalfCheetah-v5", {"legs": 6}, "cannot make HalfCheetah-v5"),
    ],
)
def test_what_has_no_model_is_refused(env_id, options, message):
    with pytest.raises(UserError, match=message):
        clips.mujoco_model(env_id, options)


@pytest.mark.parametrize("draw", [clips.render, clips.draw_flat])
def test_states_of_another_environment_are_refused(draw, model):
    with pytest.raises(UserError, match=r"shape \(3, 12\) where the model needs \(T, 18\)"):
        draw(model, np.zeros((3, 12)))


# -- captions


def test_a_caption_changes_the_top_only():
    frames = gray(3, 320, 320)
    captioned = clips.caption(frames, "before")
    assert (frames == 100).all(), "the frames given stay as they are"
    rows = np.flatnonzero((captioned != frames).any((0, 2, 3)))
    assert rows.min() == 0 and rows.max() < 40
    assert captioned[0, : rows.max()].max() == 255, "white letters"
    assert np.array_equal(captioned[0], captioned[2])


def test_the_line_below_may_run():
    captioned = clips.caption(gray(2, 320, 320), "", ["0.0 s", "0.1 s"])
    assert (captioned[:, :290] == 100).all()
    assert (captioned[0] != captioned[1]).any()
    assert np.array_equal(*clips.caption(gray(2, 320, 320), "", "steady"))


def test_long_captions_are_cut_to_fit():
    captioned = clips.caption(gray(1, 320, 120), "a policy with a name that nobody could read at this size")
    letters = np.flatnonzero((captioned[0, :30] > 200).any((0, 2)))
    assert letters.min() >= 4 and letters.max() < 116


def test_clips_side_by_side_end_on_a_still():
    one, two = gray(2), gray(5, 20, 30)
    two[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    both = clips.side_by_side([two, one], pad=6)
    assert both.shape == (5, 40, 96, 3)
    assert np.array_equal(both[:, 10:30, :30], two)
    assert (both[:, :, 30:36] == clips.BACKGROUND).all()
    assert (both[:, :, 36:] == 100).all()


# -- files


@reads_video
def test_a_video_can_be_read_back(tmp_path):
    frames = np.zeros((7, 41, 63, 3), np.uint8)
    frames[:, :, :32] = (200, 40, 40)
    path = tmp_path / "new" / "video.mp4"
    clips.write_video(path, frames, 20)
    video, facts = imageio.imread(path), imageio.immeta(path)
    gc.collect()
    assert video.shape == (7, 42, 64, 3)
    assert (facts["fps"], facts["codec"]) == (20, "h264") and facts["pix_fmt"].startswith("yuv420p")
    assert np.abs(video[3, 20, 10].astype(int) - (200, 40, 40)).max() < 20
    assert os.listdir(path.parent) == ["video.mp4"]


def test_a_gif_can_be_read_back(tmp_path):
    frames = gray(10)
    for t in range(10):
        frames[t, :, : 6 * t] = (200, 40, 40)
    clips.write_gif(tmp_path / "slow.gif", frames, 20)
    with Image.open(tmp_path / "slow.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (10, 50, 0)
    clips.write_gif(tmp_path / "fast.gif", frames, 50)
    with Image.open(tmp_path / "fast.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (5, 40)


@pytest.mark.parametrize("write", [clips.write_video, clips.write_gif])
def test_a_file_that_cannot_be_written_is_the_users_error(tmp_path, write):
    (tmp_path / "clip").mkdir()  # in the way
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "clip", gray(2), 20)
    assert os.listdir(tmp_path) == ["clip"]


@pytest.mark.parametrize("ffmpeg", ["/bin/false", "/nowhere/ffmpeg"])
def test_a_failing_encoder_leaves_the_old_video(tmp_path, monkeypatch, ffmpeg):
    monkeypatch.setattr(clips.imageio_ffmpeg, "get_ffmpeg_exe", lambda: ffmpeg)
    (tmp_path / "video.mp4").write_text("old")
    with pytest.raises(UserError, match="cannot encode"):
        clips.write_video(tmp_path / "video.mp4", gray(2), 20)
    assert (tmp_path / "video.mp4").read_text() == "old"
