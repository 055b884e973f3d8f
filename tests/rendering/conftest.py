"""A model and states to draw, for the tests of rendering."""

import gymnasium
import numpy as np
import pytest

from rlhf_control.compute import gl
from rlhf_control.rendering import clips, mujoco_renderer
from rlhf_control.simulation.make import mujoco_model

needs_gl = pytest.mark.skipif(clips.choose_gl() == "none", reason="no OpenGL here")


@pytest.fixture(scope="module")
def model():
    return mujoco_model("HalfCheetah-v5", {})


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
    gl.choose_gl.cache_clear()
    mujoco_renderer.say_once.cache_clear()
    yield
    gl.choose_gl.cache_clear()
