import numpy as np
import pytest

from rlhf_control.config.policy import NetConfig
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.corrections import attempt_again, one_attempt
from rlhf_control.simulation.rollouts import collect, evaluate
from rlhf_control.simulation.simulator import Simulator, check_simulator
from rlhf_control.simulation.vector import start_envs


def policy_of(env_id: str, **env: object) -> Policy:
    return Policy(start_envs(env_id, 1, seed=0, env=env).spaces, NetConfig(hidden=(16,)), 0, env_id, dict(env))


def clips_of(policy: Policy, n: int, length: int) -> Segments:
    envs = start_envs(policy.env_id, n, seed=0, env=policy.env)
    rollout = collect(envs, policy, 3 + length, np.random.default_rng(0)).as_segments()
    return Segments(**{name: array[3:].swapaxes(0, 1) for name, array in rollout.arrays().items()})


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Ant-v5", "Reacher-v5"])
def test_the_same_actions_lead_to_the_same_clip(env_id: str) -> None:
    """So states, observations, actions and rewards are what `collect` would have recorded, contact forces included.
    Over a few steps: bodies in contact part soon. The Ant's reward reads the position a substep before."""
    policy = policy_of(env_id)
    clips = clips_of(policy, 2, 4)
    for i in range(2):
        clip = clips[i]
        actions = iter(clip.action)
        again, whole = one_attempt(
            Simulator(env_id, {}), lambda obs, rng: next(actions)[None], policy, clip, np.random.default_rng(0)  # noqa: B023
        )  # fmt: skip
        assert whole
        for name, array in clip.arrays().items():
            assert again.arrays()[name].dtype == array.dtype
            atol = 0.02 if name == "env_reward" else 1e-3
            np.testing.assert_allclose(again.arrays()[name], array, rtol=1e-3, atol=atol, err_msg=name)


def test_attempts_differ_and_begin_where_the_clip_began() -> None:
    policy = policy_of("HalfCheetah-v5")
    clips = clips_of(policy, 3, 10)
    attempts = attempt_again(policy, clips, 4, np.random.default_rng(0))
    assert attempts.obs.shape == (3, 4, 10, 17) and attempts.env_reward.shape == (3, 4, 10)
    assert clips.state is not None and attempts.state is not None
    for i in range(3):
        assert (attempts.state[i, :, 0] == clips.state[i, 0]).all() and (attempts.obs[i, :, 0] == clips.obs[i, 0]).all()
        assert len({attempts[i][j].digest() for j in range(4)}) == 4
    np.testing.assert_array_equal(attempts.next_obs[..., :-1, :], attempts.obs[..., 1:, :])
    again = attempt_again(policy, clips, 4, np.random.default_rng(0))
    assert again.digest() == attempts.digest()


def test_a_try_that_ends_early_is_made_again() -> None:
    """Hopper falls sooner or later: none of these attempts has."""
    policy = policy_of("Hopper-v5")
    _, episodes = evaluate(policy, 4, seed=0, deterministic=False)
    clips = Segments.stack([e[len(e) - 12 :][:8] for e in episodes])  # four steps before the fall
    attempts = attempt_again(policy, clips, 3, np.random.default_rng(0))
    assert attempts.state is not None and (attempts.state[..., 1] > 0.7).all()  # it counts as healthy above


def test_what_cannot_be_put_back_is_refused() -> None:
    with pytest.raises(UserError, match="CartPole-v1 cannot be put back"):
        check_simulator("CartPole-v1", {})
    policy = policy_of("HalfCheetah-v5")
    clips = clips_of(policy, 1, 4)
    bare = Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    with pytest.raises(UserError, match="no simulator states"):
        attempt_again(policy, bare, 2, np.random.default_rng(0))
