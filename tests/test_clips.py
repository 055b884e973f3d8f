"""Drawing with the real simulator; the tests of OpenGL are skipped where there is none."""

import itertools
import os
import subprocess
import sys
import threading

import gymnasium
import numpy as np
import pytest

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
