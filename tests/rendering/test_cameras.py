"""Models and cameras of Gymnasium's environments."""

import mujoco
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


@pytest.mark.parametrize(
    ("visual", "default"),
    [
        ("", "side"),
        ('<visual><global azimuth="130" elevation="-20"/></visual><statistic center="1 2 3" extent="2"/>', "free"),
        ('<visual><global azimuth="130" cameraid="1"/></visual>', "near"),
    ],
)
def test_a_model_may_say_from_where_it_is_seen_best(visual, default):
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco>{visual}<worldbody><camera name='far' pos='0 0 9'/><camera name='near' pos='0 0 1'/>"
        "<body><joint axis='0 1 0'/><geom size='.1'/></body></worldbody></mujoco>"
    )
    assert cameras.camera_names(model)[0] == default
    eye = mujoco.MjvCamera()
    cameras.aim(eye, model, cameras.placement_of(model), cameras.TRACK)  # who asks for none
    if default == "free":
        assert (eye.azimuth, eye.elevation, eye.distance) == (130, -20, 3) and eye.lookat.tolist() == [1, 2, 3]
    else:
        assert (eye.fixedcamid == 1) == (default == "near")
