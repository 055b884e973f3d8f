import numpy as np
import pytest

from envs import GAMES
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.queries.corrections import attempt_again
from rlhf_control.simulation.simulator import attempt_from, bare_simulator, check_simulator
from tests.queries.clips import clips_of, policy_of


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Ant-v5", "Reacher-v5"])
def test_the_same_actions_lead_to_the_same_clip(env_id: str) -> None:
    """So states, observations, actions and rewards are what `collect` would have recorded, contact forces included.
    Over a few steps: bodies in contact part soon. The Ant's reward reads the position a substep before."""
    policy = policy_of(env_id)
    clips = clips_of(policy, 2, 4)
    for i in range(2):
        clip = clips[i]
        actions = iter(clip.action)
        whole_clip = (policy.spaces, clip, np.random.default_rng(0))
        again, whole = attempt_from(
            bare_simulator(env_id, {}), lambda obs, rng: next(actions)[None], *whole_clip  # noqa: B023
        )  # fmt: skip
        assert whole
        for name, array in clip.arrays().items():
            assert again.arrays()[name].dtype == array.dtype
            atol = 0.02 if name == "env_reward" else 1e-3
            np.testing.assert_allclose(again.arrays()[name], array, rtol=1e-3, atol=atol, err_msg=name)


@pytest.mark.parametrize("env_id", list(GAMES))
@pytest.mark.parametrize("obs", ["state", "planes"])
def test_games_are_all_in_their_state(env_id: str, obs: str) -> None:
    check_simulator(env_id, {"obs": obs})
    one, two = (bare_simulator(env_id, {"obs": obs}) for _ in range(2))
    for action in (1, 1, 2, 0):
        seen = one.step(action)[0]
    two.put(one.state())
    np.testing.assert_array_equal(two.observed(), seen)
    for action in (2, 1, 0):
        np.testing.assert_array_equal(two.step(action)[0], one.step(action)[0])
    for state in (np.zeros(3), np.full(one.state().shape, 0.5)):
        with pytest.raises(UserError, match="cannot start from this state"):
            two.put(state)


def test_what_cannot_be_put_back_is_refused() -> None:
    with pytest.raises(UserError, match="CartPole-v1 cannot be put back"):
        check_simulator("CartPole-v1", {})
    policy = policy_of("HalfCheetah-v5")
    clips = clips_of(policy, 1, 4)
    bare = Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    with pytest.raises(UserError, match="no simulator states"):
        attempt_again(policy, bare, 2, np.random.default_rng(0))
