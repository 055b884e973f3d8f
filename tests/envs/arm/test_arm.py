"""The arm: to the same bits from any state again, however many there are."""

from contextlib import closing

import gymnasium
import numpy as np
import pytest

from envs import ARMS, MujocoVectorEnv
from rlhf_control.rendering.cameras import camera_names
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.simulation.simulator import bare_simulator, check_simulator
from tests.envs.same_bits import assert_same_bits, random_actions

REACH, GRASP, DOOR_ID = "rlhf/ArmReach-v0", "rlhf/ArmGrasp-v0", "rlhf/ArmDoor-v0"


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
    assert camera_names(envs.model)[:2] == ["track", "across"]
    pictures = draw_flat(envs.model, envs.states, width=64, height=64, camera="track")
    assert len(np.unique(pictures.reshape(-1, 3), axis=0)) > 4
