"""Drawing by OpenGL; what needs it is skipped where there is none."""

import itertools
import threading

import numpy as np
import pytest

from rlhf_control.errors import UserError
from rlhf_control.rendering import clips, mujoco_renderer
from rlhf_control.rendering.cameras import level_planes, placement_of
from rlhf_control.simulation.make import mujoco_model
from tests.rendering.conftest import needs_gl


@needs_gl
def test_two_drawings_are_byte_identical(model, states):
    frames = mujoco_renderer.render_mujoco(model, states)
    assert frames.shape == (12, 320, 320, 3) and frames.dtype == np.uint8
    assert np.array_equal(mujoco_renderer.render_mujoco(model, states), frames)
    assert np.array_equal(mujoco_renderer.render_mujoco(model, states[::-1])[::-1], frames), (
        "a frame depends on the one before"
    )
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


@needs_gl
def test_any_thread_may_draw(model, states):
    drawn = []
    threads = [
        threading.Thread(target=lambda: drawn.append(mujoco_renderer.render_mujoco(model, states[:2])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = mujoco_renderer.render_mujoco(model, states[:2])
    assert len(drawn) == 2 and all(np.array_equal(frames, here) for frames in drawn)


@needs_gl
def test_the_floor_does_not_end(model, states):
    _, period = level_planes(model)  # 80 m, 60 repeats of two tiles
    np.testing.assert_allclose(period, [[80 / 60, 80 / 60]])
    far = states[:2].copy()
    far[:, 0] += 400 * period[0, 0]
    difference = mujoco_renderer.render_mujoco(model, far).astype(int) - mujoco_renderer.render_mujoco(
        model, states[:2]
    )
    assert np.abs(difference).mean() < 0.1
    far[:, 0] += 0.3
    difference = mujoco_renderer.render_mujoco(model, far).astype(int) - mujoco_renderer.render_mujoco(
        model, states[:2]
    )
    assert np.abs(difference).mean() > 3, "the tiles do not move"


@needs_gl
def test_the_callers_model_stays_as_it_is(model, states):
    before = model.vis.quality.offsamples, model.vis.global_.offwidth, model.cam_fovy.tolist(), model.geom_pos.tolist()
    assert mujoco_renderer.render_mujoco(model, states[:1], width=700, height=100).shape == (1, 100, 700, 3)
    after = model.vis.quality.offsamples, model.vis.global_.offwidth, model.cam_fovy.tolist(), model.geom_pos.tolist()
    assert after == before


@pytest.mark.parametrize("draw", [pytest.param(mujoco_renderer.render_mujoco, marks=needs_gl), clips.draw_flat])
@pytest.mark.parametrize(
    ("env_id", "follows", "top"),
    [("Ant-v5", True, False), ("Swimmer-v5", True, True), ("Reacher-v5", False, True), ("Pusher-v5", False, False)],
)
def test_every_model_is_seen_moving(draw, env_id, follows, top):
    model = mujoco_model(env_id, {})
    placement = placement_of(model)
    assert (placement.follows, placement.top) == (follows, top)
    states = np.zeros((2, model.nq + model.nv))
    states[:, : model.nq] = model.qpos0
    states[1, model.jnt_qposadr[model.jnt_type == 3]] += 0.4  # rad, every hinge
    still, moved = draw(model, states).astype(int)
    changed = (still != moved).any(-1)
    assert changed[80:240, 80:240].sum() > 100


def test_render_falls_back_and_says_so_once(without_gl, model, states, capsys):
    frames = mujoco_renderer.render(model, states[:2])
    mujoco_renderer.render(model, states[:2])
    assert np.array_equal(frames, clips.draw_flat(model, states[:2]))
    assert capsys.readouterr().err == (
        "OpenGL does not work here; MUJOCO_GL=off turns it off. Until then clips are plain drawings.\n"
    )


def test_an_unset_gl_that_does_not_work_is_an_error_of_ours(without_gl, model, states):
    with pytest.raises(clips.NoGLError, match="OpenGL does not work here"):
        mujoco_renderer.render_mujoco(model, states)


@pytest.mark.parametrize("draw", [mujoco_renderer.render, clips.draw_flat])
def test_states_of_another_environment_are_refused(draw, model):
    with pytest.raises(UserError, match=r"states have 12 numbers, which do not fit the model with its 9"):
        draw(model, np.zeros((3, 12)))
