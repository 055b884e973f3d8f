from typing import Any

import numpy as np
import pytest

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.errors import NonFiniteError
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation.double_buffer import MOST, DoubleBufferedEnvs, beside, start_double_buffered
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs


def learner_for(env_id: str) -> PPO:
    return PPO(Policy(start_envs(env_id, 1, seed=0).spaces, NetConfig((8,), 1.0), 0, env_id, {}), PPOConfig())


def assert_equal(a: Any, b: Any) -> None:
    for name, value in vars(a).items():
        np.testing.assert_array_equal(value, vars(b)[name], err_msg=name)


@pytest.mark.parametrize("num_envs", [2, 5, 8])
def test_two_groups_are_their_environments_one_after_another(num_envs: int) -> None:
    """Bit for bit, and of the environments that one batch would have: the groups change nothing but the time."""
    learner = learner_for("Hopper-v5")
    envs = start_double_buffered("Hopper-v5", num_envs, seed=7)
    assert [group.num_envs for group in envs.groups] == [(num_envs + 1) // 2, num_envs // 2]
    rollout = envs.collect(learner, 60, np.random.default_rng(0))
    assert rollout.done.any() and len(rollout.episode_returns) == rollout.done.sum()
    firsts = (0, envs.groups[0].num_envs)
    alone = [
        collect(start_envs("Hopper-v5", group.num_envs, seed=7, first=first), learner, 60, rng)
        for group, first, rng in zip(envs.groups, firsts, np.random.default_rng(0).spawn(2), strict=True)
    ]
    assert_equal(rollout, beside(alone))
    np.testing.assert_array_equal(rollout.obs[0], start_envs("Hopper-v5", num_envs, seed=7).obs)
    envs.close()


@pytest.mark.parametrize(("env_id", "num_envs"), [("CartPole-v1", 4), ("Hopper-v5", 1), ("Hopper-v5", MOST + 1)])
def test_one_group_where_two_would_not_help(env_id: str, num_envs: int) -> None:
    (group,) = start_double_buffered(env_id, num_envs, seed=0).groups
    assert group.num_envs == num_envs


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_a_snapshot_continues_bit_equal(env_id: str) -> None:
    learner = learner_for(env_id)
    envs = start_double_buffered(env_id, 4, seed=0)
    envs.collect(learner, 37, np.random.default_rng(0))
    state = envs.state()
    expected = envs.collect(learner, 50, np.random.default_rng(1))
    other = start_double_buffered(env_id, 4, seed=9)
    other.load_state(state)
    assert_equal(other.collect(learner, 50, np.random.default_rng(1)), expected)


@pytest.mark.parametrize("num_envs", [8, MOST + 4])
def test_staggered_episodes_end_one_after_another(num_envs: int) -> None:
    """The first of environment i after 40 - 40 i / n steps, the others after 40; the cut ones are not told, here or
    after a snapshot, and nothing else is another."""
    learner = learner_for("HalfCheetah-v5")

    def start(seed: int = 7) -> DoubleBufferedEnvs:
        return start_double_buffered("HalfCheetah-v5", num_envs, seed=seed, env={"max_episode_steps": 40})

    envs, in_step = start(), start()
    envs.stagger(40)
    rollout = envs.collect(learner, 25, np.random.default_rng(0))
    before = in_step.collect(learner, 25, np.random.default_rng(0))
    firsts = 40 - np.arange(num_envs) * 40 // num_envs
    for i, first in enumerate(firsts):
        np.testing.assert_array_equal(rollout.obs[:first, i], before.obs[:first, i])
    other = start(9)
    other.load_state(envs.state())
    again = envs.collect(learner, 60, np.random.default_rng(1))
    assert_equal(other.collect(learner, 60, np.random.default_rng(1)), again)
    truncated = np.concatenate([rollout.truncated, again.truncated])
    for i, first in enumerate(firsts):
        np.testing.assert_array_equal(np.flatnonzero(truncated[:, i]), np.arange(first - 1, 85, 40))
    assert rollout.episode_lengths == () and set(again.episode_lengths) == {40}
    assert len(again.episode_returns) == truncated.sum() - (num_envs - 1)
    assert np.isfinite(again.episode_returns).all()


def test_errors_name_the_environment_by_its_number_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_for("Hopper-v5")
    envs = start_double_buffered("Hopper-v5", 4, seed=0)
    step = envs.groups[1].step

    def spoiled(*args: Any) -> Any:
        next_obs, reward, terminated, truncated = step(*args)
        reward[1] = np.nan
        return next_obs, reward, terminated, truncated

    monkeypatch.setattr(envs.groups[1], "step", spoiled)
    with pytest.raises(NonFiniteError, match="reward is not finite: nan in environment 3 at step 0"):
        envs.collect(learner, 5, np.random.default_rng(0))
    monkeypatch.undo()
    envs = start_double_buffered("Hopper-v5", 4, seed=0)
    envs.groups[1].vector._sim.qvel[0] = np.inf  # type: ignore[attr-defined]
    with pytest.raises(NonFiniteError, match="environment 2"):
        envs.collect(learner, 5, np.random.default_rng(0))


def test_groups_are_many_or_one() -> None:
    envs = start_envs("Hopper-v5", 3, seed=0)
    alone = DoubleBufferedEnvs([envs])
    assert alone.spaces == envs.spaces and alone.step_seconds == envs.step_seconds
