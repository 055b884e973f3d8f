from dataclasses import replace

import pytest

from rlhf_control.config import FinetuneConfig, PPOConfig
from rlhf_control.errors import UserError
from rlhf_control.simulation import early_ends
from rlhf_control.simulation.early_ends import (
    cuts_off_late,
    environment_arguments,
    fixed_horizon,
    steps_to_stagger,
)
from rlhf_control.simulation.rollouts import evaluate
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
    with pytest.raises(UserError, match="truncate, penalty or allow"):
        fixed_horizon("CartPole-v1", {})
    with pytest.raises(UserError, match="truncate, penalty or allow"):
        fixed_horizon("gymnasium:CartPole-v1", {})


def test_early_ends_are_cut_off_late_where_that_can_be_done() -> None:
    late = FinetuneConfig("p", termination="truncate")
    assert environment_arguments(late, "Hopper-v5", {}) == {"terminate_when_unhealthy": False}
    for config, env_id in (
        (FinetuneConfig("p", termination="allow"), "Hopper-v5"),
        (FinetuneConfig("p", termination="penalty"), "Hopper-v5"),
        (FinetuneConfig("p", termination="truncate", unhealthy_seconds=0.0), "Hopper-v5"),
        (FinetuneConfig("p", termination="truncate", backend="gymnasium"), "Hopper-v5"),
        (late, "HalfCheetah-v5"),
        (late, "CartPole-v1"),
    ):
        assert not cuts_off_late(config, env_id, {}) and environment_arguments(config, env_id, {}) == {}


def test_episodes_are_staggered_where_they_would_stay_in_step() -> None:
    short = FinetuneConfig("halfcheetah", ppo=PPOConfig(num_envs=8, num_steps=32))
    assert steps_to_stagger(short, "HalfCheetah-v5", {}) == 1000
    assert steps_to_stagger(short, "HalfCheetah-v5", {"max_episode_steps": 128}) == 128
    assert steps_to_stagger(replace(short, termination="fixed-horizon"), "Hopper-v5", {}) == 1000
    for config, env_id, env in (
        (replace(short, stagger=False), "HalfCheetah-v5", {}),
        (replace(short, backend="gymnasium"), "HalfCheetah-v5", {}),
        (replace(short, feedback=("success",)), "HalfCheetah-v5", {}),
        (replace(short, termination="penalty"), "Hopper-v5", {}),
        (short, "HalfCheetah-v5", {"max_episode_steps": 127}),
        (short, "rlhf/ArmGrasp-v0", {}),
        (short, "Pendulum-v1", {}),
    ):
        assert steps_to_stagger(config, env_id, env) == 0
