"""One arm against many, bit for bit."""

from contextlib import closing

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from envs import ARMS, MujocoVectorEnv
from tests.envs.same_bits import assert_same_bits, assert_same_steps, gymnasium_envs, random_actions

GRASP = "rlhf/ArmGrasp-v0"


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
    with closing(gymnasium.make(env_id)) as env:
        check_env(env.unwrapped, skip_render_check=True)
