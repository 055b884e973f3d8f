"""What the libraries would do otherwise, and what they do here."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.compute.gl import choose_gl
from rlhf_control.data import Segments
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.simulator import bare_simulator
from rlhf_control.simulation.vector import start_envs

MT1 = "metaworld:Meta-World/MT1"


def task_of(env: gymnasium.Env, seed: int) -> tuple[float, ...]:
    obs, _ = env.reset(seed=seed)
    return tuple(obs[[4, 5, 6, 36, 37, 38]].tolist())


@pytest.mark.parametrize("name", ["door-open-v3", "push-v3", "reach-v3"])
def test_metaworlds_task_follows_from_the_seed_of_reset(name: str) -> None:
    one, two = (make_env(MT1, {"env_name": name}) for _ in range(2))
    tasks = [task_of(one, seed) for seed in range(4)]
    assert len(set(tasks)) > 1 and [task_of(two, seed) for seed in range(4)] == tasks
    assert task_of(one, 2) == tasks[2]
    unseeded = [one.reset()[0].tolist() for _ in range(3)]
    task_of(two, 2)
    assert [two.reset()[0].tolist() for _ in range(3)] == unseeded


def test_metaworlds_goal_is_seen() -> None:
    """Though its observation space says that it is 0."""
    env = make_env(MT1, {"env_name": "push-v3"})
    obs, _ = env.reset(seed=0)
    bare: Any = env.unwrapped
    np.testing.assert_array_equal(obs[36:], bare._target_pos)
    assert np.any(obs[36:] != 0)
    envs = start_envs(MT1, 1, seed=0, env={"env_name": "push-v3"})
    np.testing.assert_allclose(envs.obs[0, 36:], obs[36:], rtol=1e-6)


@pytest.mark.skipif(choose_gl() == "none", reason="no OpenGL here")
def test_metaworlds_corner_cameras_are_the_right_way_up() -> None:
    for camera in ("corner", "corner2", "corner3"):
        env = make_env(MT1, {"env_name": "push-v3", "render_mode": "rgb_array", "camera_name": camera})
        env.reset(seed=0)
        bare: Any = env.unwrapped
        up = bare.data.camera(camera).xmat.reshape(3, 3)[2, 1]
        assert up > 0, camera
        env.close()


def test_a_metaworld_episode_goes_on_to_its_limit_in_the_simulator_too() -> None:
    simulator = bare_simulator(MT1, {"env_name": "reach-v3"})
    state = simulator.state()
    for _ in range(3):
        simulator.put(state)
        for _ in range(200):
            simulator.step(np.zeros(4, np.float32))
    simulator.close()


@pytest.mark.skipif(choose_gl() == "none", reason="no OpenGL here")
@pytest.mark.parametrize("env_id", ["FetchPush-v4", "HandReach-v3", "HandManipulateBlock-v1"])
def test_goals_are_drawn_from_states(env_id: str) -> None:
    """And looking at them changes nothing: what the library does to draw would."""
    envs = start_envs(f"gymnasium_robotics:{env_id}", 2, seed=3)
    found = envs.states()
    assert found is not None
    states = list(found)
    before = envs.obs.copy()
    for _ in range(3):
        envs.states()  # reading them changes nothing
    zero = np.zeros((2, envs.spaces.action_size), np.float32)
    one = [envs.step(zero, zero)[0].copy() for _ in range(5)]
    other = start_envs(f"gymnasium_robotics:{env_id}", 2, seed=3)
    np.testing.assert_array_equal(other.obs, before)
    for expected in one:
        np.testing.assert_array_equal(other.step(zero, zero)[0], expected)
    renderer = ClipRenderer(f"gymnasium_robotics:{env_id}", {})
    shown = []
    for state in states:
        nothing = np.zeros((1, 1), np.float32)
        clip = Segments(nothing, nothing, nothing, np.zeros(1, np.float32), state[None])
        shown.append(renderer.draw(clip, 128, 128)[0].astype(int))
    assert np.abs(shown[0] - shown[1]).max() > 32, "two goals, two pictures"
    renderer.close()


def test_pushts_reward_does_not_depend_on_the_order_of_a_set() -> None:
    bare: Any = make_env("gym_pusht:gym_pusht/PushT-v0", {}).unwrapped
    bare.reset(seed=0)
    pusht = sys.modules["gym_pusht.envs.pusht"]
    bars = sorted(bare.block.shapes, key=id)
    one, two = (pusht.pymunk_to_shapely(bare.block, shapes) for shapes in (bars, bars[::-1]))
    assert len(bars) == 2 and one.wkb == two.wkb


def test_highways_pictures_need_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make_env("highway_env:highway-fast-v0", {"render_mode": "rgb_array"})
    env.reset(seed=0)
    first = env.render()
    env.step(1)
    assert first.std() > 0 and np.any(env.render() != first)
    env.close()
