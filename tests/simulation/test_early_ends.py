from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config import FinetuneConfig, PPOConfig
from rlhf_control.data import Rollout
from rlhf_control.errors import UserError
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation import early_ends
from rlhf_control.simulation.early_ends import (
    after_early_ends,
    cuts_off_late,
    environment_arguments,
    fixed_horizon,
    treat_termination,
)
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.training.parts import start_envs_of
from rlhf_control.training.trial import try_out
from tests.simulation.policies import policy_for


@pytest.mark.parametrize("limit", [-1, 10**9])
def test_episodes_that_never_end_are_cut_off_and_that_is_said(
    limit: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(early_ends, "CUT_OFF", 30)
    returns, episodes = evaluate(policy_for("Pendulum-v1", {"max_episode_steps": limit}), 2, seed=0)
    assert [len(e) for e in episodes] == [30, 30] and all(-30 * 17 < r < 0 for r in returns)
    assert "2 of 2 episodes of Pendulum-v1 had not ended after 30 steps and were cut off" in capsys.readouterr().err
    evaluate(policy_for("Pendulum-v1", {"max_episode_steps": 40}), 1, seed=0)
    assert capsys.readouterr().err == ""  # a limit is a limit


def test_early_ends_are_found_and_switched_off() -> None:
    for env_id in ("Hopper-v5", "CartPole-v1"):
        with pytest.raises(UserError, match="--termination"):
            try_out(policy_for(env_id), {}, 2, 0, refuse_early=True)
    try_out(policy_for("HalfCheetah-v5"), {}, 2, 0, refuse_early=True)
    env = fixed_horizon("Hopper-v5", {"forward_reward_weight": 2.0})
    assert env == {"forward_reward_weight": 2.0, "terminate_when_unhealthy": False}
    try_out(policy_for("Hopper-v5"), env, 2, 0, refuse_early=True)
    with pytest.raises(UserError, match="absorb, truncate or allow"):
        fixed_horizon("CartPole-v1", {})
    with pytest.raises(UserError, match="absorb, truncate or allow"):
        fixed_horizon("gymnasium:CartPole-v1", {})


def test_early_ends_are_cut_off_late_where_that_can_be_done() -> None:
    late = FinetuneConfig("p", termination="truncate")
    for config in (late, FinetuneConfig("p", termination="absorb")):
        assert environment_arguments(config, "Hopper-v5", {}) == {"terminate_when_unhealthy": False}
    for config, env_id in (
        (FinetuneConfig("p", termination="allow"), "Hopper-v5"),
        (FinetuneConfig("p", termination="truncate", unhealthy_seconds=0.0), "Hopper-v5"),
        (FinetuneConfig("p", termination="truncate", backend="gymnasium"), "Hopper-v5"),
        (late, "HalfCheetah-v5"),
        (late, "CartPole-v1"),
    ):
        assert not cuts_off_late(config, env_id, {}) and environment_arguments(config, env_id, {}) == {}


def test_what_goes_on_for_ever_needs_a_discount() -> None:
    config = FinetuneConfig("p", termination="absorb", ppo=PPOConfig(gamma=1.0))
    with pytest.raises(UserError, match=r"lower --ppo\.gamma"):
        environment_arguments(config, "Hopper-v5", {})


def test_a_fall_is_as_bad_as_lying_there_for_ever() -> None:
    """By hand, with gamma 0.9: two early ends with rewards -1 and -3, so -2 for ever, 0.9 / 0.1 times -2 at each."""
    reward = np.array([[1.0, 2.0], [-1.0, -3.0], [4.0, 5.0]], np.float32)
    ends = np.array([[False, False], [True, True], [False, False]])
    nothing, zeros = np.zeros_like(ends), np.zeros((3, 2, 1), np.float32)
    rollout = Rollout.of(
        obs=zeros, action=zeros, executed=zeros, next_obs=zeros, env_reward=reward, reward=reward, terminated=ends,
        truncated=nothing,
    )  # fmt: skip
    config = FinetuneConfig("p", termination="absorb", ppo=PPOConfig(gamma=0.9))
    absorbing = after_early_ends(reward, rollout, config)
    np.testing.assert_allclose(absorbing, [[1, 2], [-19, -21], [4, 5]], rtol=1e-6)
    assert after_early_ends(reward, rollout, replace(config, termination="allow")) is reward
    assert treat_termination(rollout, "absorb", "Hopper-v5", Path()).terminated.sum() == 2


def test_hopper_ends_late_and_early_at_that(tmp_path: Path) -> None:
    """It goes on for 0.16 s, 20 steps, after it fell; the end counts as early, not as the time limit's."""
    policy = policy_for("Hopper-v5")
    for treatment, ends in (("absorb", (True, False)), ("truncate", (False, True))):
        config = FinetuneConfig("p", termination=treatment, unhealthy_seconds=0.16, ppo=PPOConfig(num_envs=2))
        envs = start_envs_of(config, "Hopper-v5", environment_arguments(config, "Hopper-v5", {}))
        rollout = envs.collect(PPO(policy, config.ppo), 400, np.random.default_rng(0))
        envs.close()
        treated = treat_termination(rollout, treatment, "Hopper-v5", tmp_path)
        assert (treated.terminated.any(), treated.truncated.any()) == ends
        assert set(np.flatnonzero(treated.done[:, 0])) == set(np.flatnonzero(rollout.done[:, 0]))
