import gymnasium
import numpy as np
import pytest

from envs import MujocoVectorEnv
from rlhf_control.errors import UserError
from rlhf_control.simulation.make import make_envs
from rlhf_control.simulation.vector import start_envs


@pytest.mark.parametrize(
    ("env_id", "env", "words"),
    [
        ("HalfChetah-v5", {}, "did you mean HalfCheetah-v5"),
        ("HalfCheetah-v5", {"nonsense": 1}, "nonsense"),
        ("CartPole-v1", {"nonsense": 1}, "nonsense"),
        ("nowhere:Thing-v0", {}, "cannot make"),
    ],
)
def test_an_environment_that_cannot_be_made(env_id: str, env: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        start_envs(env_id, 1, seed=0, env=env)


@pytest.mark.parametrize("backend", ["batched", "gymnasium"])
def test_make_envs_gives_gymnasiums_vector_environments(backend: str) -> None:
    envs = make_envs("Hopper-v5", 3, seed=5, backend=backend, terminate_when_unhealthy=False)
    assert isinstance(envs, gymnasium.vector.VectorEnv)
    action = np.zeros((3, 3), np.float32)
    first, *_ = envs.step(action)  # reset already
    envs.reset(seed=5)
    obs, reward, terminated, truncated, _ = envs.step(action)
    np.testing.assert_array_equal(obs, first)
    assert obs.shape == (3, 11) and reward.shape == terminated.shape == truncated.shape == (3,)
    for _ in range(200):
        assert not envs.step(np.ones((3, 3), np.float32))[2].any()  # it has long fallen
    envs.close()


@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
@pytest.mark.parametrize(
    ("env_id", "env", "words"),
    [
        ("Hopper-v5", {"terminate_when_unhealthy": "false"}, "terminate_when_unhealthy of Hopper-v5 .* True or False"),
        ("Hopper-v5", {"terminate_when_unhealthy": 2}, "True or False, not 2"),
        ("HalfCheetah-v5", {"exclude_current_positions_from_observation": 0.5}, "True or False, not 0.5"),
        ("FrozenLake-v1", {"is_slippery": "False"}, "is_slippery of FrozenLake-v1 .* True or False, not 'False'"),
        ("Hopper-v5", {"frame_skip": 1.0}, "frame_skip of Hopper-v5 is a whole number"),
        ("Reacher-v5", {"xml_file": "hopper.xml"}, "fingertip"),
    ],
)
def test_a_misread_argument_is_refused_in_one_line(backend: str, env_id: str, env: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make_envs(env_id, 1, seed=0, backend=backend, **env)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        {"width": 64, "height": 64},
        {"camera_name": "track"},
        {"camera_id": 0},
        {"default_camera_config": {"distance": 4.0}},
        {"max_geom": 100},
        {"visual_options": {}},
        {"render_mode": None},
        {"disable_env_checker": True},
        {"max_episode_steps": -1},
        {"main_body": np.int64(1)},
    ],
)
def test_what_gymnasium_accepts_stays_batched(env: dict) -> None:
    assert isinstance(make_envs("Ant-v5", 2, seed=0, **env), MujocoVectorEnv)


def test_a_render_mode_takes_gymnasiums_own(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_envs("Ant-v5", 2, seed=0, render_mode="rgb_array")
    assert isinstance(envs, gymnasium.vector.SyncVectorEnv) and envs.render_mode == "rgb_array"
    envs.close()
    with pytest.raises(UserError, match="do not draw"):
        make_envs("Ant-v5", 2, seed=0, backend="batched", render_mode="rgb_array")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="needs a display"):
        make_envs("Ant-v5", 2, seed=0, render_mode="human")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5"])
@pytest.mark.parametrize("num_envs", [0, -3])
def test_no_environments(env_id: str, num_envs: int) -> None:
    with pytest.raises(UserError, match=f"cannot make {num_envs} environments of {env_id}"):
        make_envs(env_id, num_envs, seed=0)


def test_an_unknown_backend() -> None:
    with pytest.raises(UserError, match="did you mean batched"):
        make_envs("Hopper-v5", 1, seed=0, backend="batch")


def test_backend_batched_needs_a_batched_environment() -> None:
    with pytest.raises(UserError, match="no batched version"):
        start_envs("CartPole-v1", 1, seed=0, backend="batched")
