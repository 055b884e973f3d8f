"""Models and cameras of Gymnasium's environments."""

import numpy as np
import pytest

from rlhf_control.errors import UserError
from rlhf_control.rendering import cameras
from rlhf_control.simulation import make


def test_models_are_made_once():
    assert make.mujoco_model("Hopper-v5", {}) is make.mujoco_model("Hopper-v5", {})


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
        make.mujoco_model(env_id, options)


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("HalfCheetah-v5", ["track", "side", "front", "top"]),
        ("Pusher-v5", ["side", "front", "top"]),
        ("Reacher-v5", ["top", "side", "front"]),
    ],
)
def test_the_cameras_of_a_model(env_id, names):
    assert cameras.camera_names(make.mujoco_model(env_id, {})) == names


def test_the_floors_texture_repeats():
    floors, period = cameras.level_planes(make.mujoco_model("HalfCheetah-v5", {}))
    assert len(floors) == 1
    np.testing.assert_allclose(period, [[80 / 60, 80 / 60]])  # 80 m, 60 repeats of two tiles
