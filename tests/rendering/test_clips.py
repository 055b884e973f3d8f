"""Drawing with the real simulator; the tests of OpenGL are skipped where there is none."""

import gymnasium
import numpy as np
import pytest

from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.rendering import clips, mujoco_renderer
from rlhf_control.simulation.pictures import encode_all
from rlhf_control.simulation.vector import start_envs
from tests.rendering.conftest import needs_gl


def clip_of(state=None, frames=None, steps=50):
    """A clip that holds only what is drawn."""
    nothing = np.zeros((steps, 1), np.float32)
    return Segments(nothing, nothing, nothing, nothing[:, 0], state, frames)


@needs_gl
def test_a_painter_draws_as_whoever_draws_one_clip(model, states):
    renderer = clips.ClipRenderer("HalfCheetah-v5", {})
    assert renderer.cameras == clips.cameras("HalfCheetah-v5", {}) == ["track", "side", "front", "top"]
    for _ in range(2):  # the second time from a scene that has seen others
        for camera, name in enumerate(renderer.cameras):
            expected = mujoco_renderer.render_mujoco(model, states[:3], width=96, height=128, camera=name)
            np.testing.assert_array_equal(renderer.draw(clip_of(states[:3]), 96, 128, camera), expected)
        np.testing.assert_array_equal(renderer.draw(clip_of(states[:3]), 96, 128, camera + 1)[0].shape, (128, 96, 3))
        renderer.draw(clip_of(states[::-1]), 64, 64)
    four = [renderer.draw(clip_of(states[:1]), 64, 64, camera) for camera in range(4)]
    assert len({frames.tobytes() for frames in four}) == 4
    renderer.close()


def test_a_painter_without_opengl_draws_plainly_and_says_so(without_gl, model, states):
    renderer = clips.ClipRenderer("HalfCheetah-v5", {})
    assert not renderer.notice
    frames = renderer.draw(clip_of(states), 96, 96, 2)
    np.testing.assert_array_equal(frames, clips.draw_flat(model, states, width=96, height=96, camera="front"))
    assert (
        renderer.notice == "OpenGL does not work here; MUJOCO_GL=off turns it off. Until then clips are plain drawings."
    )


def test_fast_clips_are_thinned(without_gl):
    states = np.zeros((50, 12))
    assert len(clips.ClipRenderer("Hopper-v5", {}).draw(clip_of(states), 64, 64)) == 17  # of 125 steps a second


@pytest.mark.parametrize(
    ("env_id", "size"),
    [
        ("CartPole-v1", 4),
        ("Pendulum-v1", 3),
        ("MountainCar-v0", 2),
        ("MountainCarContinuous-v0", 2),
        ("Acrobot-v1", 4),
    ],
)
def test_classic_control_is_drawn_as_it_draws_itself(env_id, size):
    """Byte for byte, from the states alone and in any order."""
    from rlhf_control.simulation.states import state_reader

    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    read = state_reader([env])
    states, pictures = [], []
    for _ in range(8):
        states.append(read()[0])
        pictures.append(env.render())
        env.step(env.action_space.sample())
    height, width = pictures[0].shape[:2]
    renderer = clips.ClipRenderer(env_id, {})
    assert np.stack(states).shape == (8, size) and renderer.cameras == ["picture"]
    np.testing.assert_array_equal(renderer.draw(clip_of(np.stack(states)), width, height), np.stack(pictures))
    back = renderer.draw(clip_of(np.stack(states)[::-1]), width, height)[::-1]
    np.testing.assert_array_equal(back, np.stack(pictures))
    small = renderer.draw(clip_of(np.stack(states)), 150, 150)
    assert small.shape == (8, round(150 * height / width), 150, 3) and len({f.tobytes() for f in small}) > 4


@pytest.mark.parametrize("env_id", ["rlhf/Bricks-v0", "rlhf/Orchard-v0"])
def test_games_are_drawn_from_their_states_as_they_draw_themselves(env_id):
    """Whatever the policy observes; the states are those that training stores."""
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=3)
    envs = start_envs(env_id, 1, seed=3, env={"obs": "planes"}, frames=True)
    assert not envs.frames
    states, pictures = [], []
    for action in (1, 2, 2, 0):
        states.append(envs.states()[0])
        pictures.append(env.render())
        env.step(action)
        envs.step(np.array([[action]]), np.zeros((1, 1)))
    renderer = clips.ClipRenderer(env_id, {"obs": "planes"})
    np.testing.assert_array_equal(renderer.draw(clip_of(np.stack(states)), 504, 504), np.stack(pictures))
    assert renderer.draw(clip_of(np.stack(states)), 240, 300).shape == (4, 240, 240, 3)


def test_recorded_pictures_are_shown():
    pictures = np.random.default_rng(0).integers(0, 255, (3, 100, 50, 3), np.uint8)
    recorded = encode_all(pictures)
    frames = np.stack([recorded, np.zeros_like(recorded)], 1).ravel()  # every other step
    renderer = clips.ClipRenderer("Taxi-v4", {})
    np.testing.assert_array_equal(renderer.draw(clip_of(frames=frames, steps=6), 50, 100), pictures)
    assert renderer.draw(clip_of(frames=frames, steps=6), 320, 320).shape == (3, 320, 160, 3)


@pytest.mark.parametrize(
    ("env_id", "state", "message"),
    [
        ("Taxi-v4", None, "neither simulator states nor pictures"),
        ("Taxi-v4", np.zeros((3, 2)), "cannot be drawn"),
        ("Hopper-v5", np.ones((3, 18)), "another environment"),
        ("Hoper-v5", np.zeros((3, 12)), "did you mean Hopper-v5"),
    ],
)
def test_what_cannot_be_drawn(env_id, state, message):
    with pytest.raises(UserError, match=message):
        clips.ClipRenderer(env_id, {}).draw(clip_of(state, steps=3), 64, 64)
