"""The arm: one and many to the same bits, from any state again, and what its tasks ask for."""

import warnings
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import MujocoVectorEnv
from envs.arm.door import DOOR, HANDLE
from envs.mujoco.vector import ARMS
from rlhf_control.rendering.cameras import camera_names
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.simulation.simulator import bare_simulator, check_simulator
from tests.envs.mujoco.test_vector import assert_same_bits, assert_same_steps, gymnasium_envs, random_actions

REACH, GRASP, DOOR_ID = "rlhf/ArmReach-v0", "rlhf/ArmGrasp-v0", "rlhf/ArmDoor-v0"
OPEN, SHUT = 1.0, -1.0


@pytest.mark.parametrize(
    ("env_id", "options"),
    [(env_id, {}) for env_id in ARMS]
    + [(GRASP, {"control": "joint", "reward": "sparse", "terminate_on_success": True, "max_episode_steps": 20})],
)
def test_one_is_many_to_the_bit(env_id, options):
    theirs, ours = gymnasium_envs(env_id, 3, **options), MujocoVectorEnv(env_id, 3, **options)
    assert ours.spec == theirs.spec and ours.metadata == theirs.metadata
    assert ours.single_action_space == theirs.single_action_space
    assert ours.single_observation_space == theirs.single_observation_space
    for our, their in zip(ours.reset(seed=5), theirs.reset(seed=5), strict=True):
        assert_same_bits(our, their, "reset")
    assert assert_same_steps(ours, theirs, random_actions(ours, 80, scale=1.5)) >= 3
    theirs.close()


@pytest.mark.filterwarnings("ignore:.*A Box observation space:UserWarning")
@pytest.mark.parametrize("env_id", ARMS)
def test_gymnasium_finds_nothing_wrong(env_id):
    with closing(gymnasium.make(env_id)) as env, warnings.catch_warnings():
        check_env(env.unwrapped, skip_render_check=True)


def test_bits_do_not_depend_on_how_many_there_are():
    alone, many = MujocoVectorEnv(GRASP, 1), MujocoVectorEnv(GRASP, 7, num_threads=2)
    assert_same_bits(alone.reset(seed=4)[0][0], many.reset(seed=0)[0][4], "reset")
    for actions in random_actions(many, 90, scale=1.0):
        for our, their in zip(alone.step(actions[4:5])[:4], many.step(actions)[:4], strict=True):
            assert_same_bits(our[0], their[4], "step")


@pytest.mark.parametrize("env_id", ARMS)
def test_a_state_and_the_actions_from_there_give_the_same_bits_in_another_instance(env_id):
    """So a clip is drawn, and corrected, as it was; and a snapshot goes on."""
    envs, other = MujocoVectorEnv(env_id, 2, max_episode_steps=-1), MujocoVectorEnv(env_id, 2, max_episode_steps=-1)
    envs.reset(seed=1)
    for actions in random_actions(envs, 30, scale=1.0):
        obs = envs.step(actions)[0]
    assert_same_bits(other.restore(envs.snapshot()), obs, "restored")
    with closing(bare_simulator(env_id, {})) as simulator:
        simulator.put(envs.states[1])
        assert_same_bits(simulator.observed(), obs[1].astype(np.float32), "observed")
        for actions in random_actions(envs, 20, scale=1.0):
            step = envs.step(actions)
            assert_same_bits(other.step(actions)[0], step[0], "after the snapshot")
            assert_same_bits(simulator.step(actions[1])[0], step[0][1].astype(np.float32), "after the state")
            assert_same_bits(simulator.state(), envs.states[1], "state")
    check_simulator(env_id, {})


def play(env: gymnasium.Env, steps: int, towards: Any) -> list[dict[str, Any]]:
    """Steps by where `towards(env, t)` has the gripper go (3,) m from where it is, and how its fingers are."""
    infos = []
    for t in range(steps):
        way, fingers = towards(env.unwrapped, t)
        _, reward, terminated, _, info = env.step(np.array([*np.clip(way / 0.025, -1, 1), 0, fingers], np.float32))
        assert not terminated
        infos.append({"reward": reward, **info})
    return infos


def grip(env: Any) -> np.ndarray:
    return env.data.site("grip").xpos


@pytest.mark.parametrize("seed", range(3))
def test_a_block_that_is_gripped_is_lifted_and_held(seed):
    def towards(env: Any, t: int) -> tuple[np.ndarray, float]:
        block, goal = env.data.body("block").xpos, env.data.body("target").xpos
        if t < 30:
            return block - grip(env) + [0, 0, 0.08 if t < 18 else 0], OPEN
        return (goal - block if t > 36 else np.zeros(3)), SHUT

    env = gymnasium.make(GRASP)
    env.reset(seed=seed)
    infos = play(env, 75, towards)
    assert all(info["success"] for info in infos[-10:]) and not infos[30]["success"]
    assert infos[-1]["distance"] < 0.01 and infos[-1]["height"] > 0.09
    assert infos[0]["reward"] < infos[33]["reward"] < infos[-1]["reward"] < 2.75
    assert infos[-1]["reward"] == pytest.approx(sum(v for k, v in infos[-1].items() if k.startswith("reward_")))


def open_the_door(env: Any, t: int, *, turning: bool = True) -> tuple[np.ndarray, float]:
    lever, door = env.data.site("lever").xpos, env.data.qpos[DOOR]
    if t < 30:
        return lever - grip(env), OPEN if t < 22 else SHUT
    if t < 40 and turning:
        return np.array([0, 0, -0.009]), SHUT
    return 0.02 * np.array([-np.cos(door), np.sin(door), 0]), SHUT


def test_a_door_opens_once_its_handle_is_turned():
    env = gymnasium.make(DOOR_ID)
    env.reset(seed=1)
    infos = play(env, 70, open_the_door)
    assert infos[29]["door"] < 0.02 and max(info["handle"] for info in infos[:45]) > 0.4
    assert infos[-1]["success"] and infos[-1]["door"] > 1


def test_a_door_whose_handle_is_not_turned_stays_shut():
    env = gymnasium.make(DOOR_ID)
    env.reset(seed=1)
    infos = play(env, 70, lambda env, t: open_the_door(env, t, turning=False))
    assert max(info["door"] for info in infos) < 0.1 and not any(info["success"] for info in infos)
    assert env.unwrapped.data.qpos[HANDLE] < 0.3


def test_reaching_is_success_and_may_end_the_episode():
    env = gymnasium.make(REACH, terminate_on_success=True, reward="sparse")
    env.reset(seed=2)
    for _ in range(50):
        unwrapped: Any = env.unwrapped
        way = unwrapped.data.body("target").xpos - grip(unwrapped)
        action = np.array([*np.clip(way / 0.025, -1, 1), 0, 0], np.float32)
        _, reward, terminated, _, info = env.step(action)
        assert reward == info["success"] == terminated == (info["distance"] < 0.02)
        if terminated:
            return
    raise AssertionError("it never came there")


def test_goals_and_doors_stay_where_they_are_and_the_elbow_follows_its_action():
    for env_id in ARMS:
        envs = MujocoVectorEnv(env_id, 2)
        envs.reset(seed=0)
        where = slice(envs.model.nq - 3, envs.model.nq) if env_id != DOOR_ID else slice(9, 12)
        before = envs.states[:, where]
        up, down = np.zeros((2, 5), np.float32), np.array([[0, 0, 0, 1, 0]] * 2, np.float32)
        for _ in range(30):
            envs.step(down)
        low = envs.states[:, 2]
        for _ in range(19):
            envs.step(up)
        np.testing.assert_allclose(envs.states[:, where], before, atol=1e-3)
        assert (low > 1).all() and (np.abs(envs.states[:, 2]) < 0.4).all()


def test_options_are_checked_and_the_camera_is_the_task_s():
    with pytest.raises(ValueError, match="control is 'jiont'; choose cartesian or joint"):
        MujocoVectorEnv(REACH, 1, control="jiont")
    with pytest.raises(ValueError, match="terminate_on_success is True or False, not 'no'"):
        gymnasium.make(REACH, terminate_on_success="no")
    with pytest.raises(ValueError, match="reach_reward is a finite number, not nan"):
        MujocoVectorEnv(REACH, 1, reach_reward=np.nan)
    with pytest.raises(TypeError, match=r"'lift_rewar'; did you mean 'lift_reward'"):
        MujocoVectorEnv(GRASP, 1, lift_rewar=1)
    envs = MujocoVectorEnv(GRASP, 1)
    envs.reset(seed=0)
    assert camera_names(envs.model)[0] == "track"
    pictures = draw_flat(envs.model, envs.states, width=64, height=64, camera="track")
    assert len(np.unique(pictures.reshape(-1, 3), axis=0)) > 4
