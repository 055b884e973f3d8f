"""What a run is made of, before its first iteration and at its end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlhf_control.config import (
    FinetuneConfig,
    NetConfig,
)
from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.reward.known import KnownReward
from rlhf_control.rl.returns import RewardScaler
from rlhf_control.spaces import Spaces
from rlhf_control.training.parts import prepare, tell_of_far_bounds
from tests.conftest import random_rollout


def test_by_default_the_old_skill_is_there_from_the_first_step_on(tiny_config: FinetuneConfig) -> None:
    _, parts = prepare(tiny_config, None, None)
    obs = np.random.default_rng(0).normal(size=(20, 17)).astype(np.float32)
    np.testing.assert_array_equal(parts.learner.policy.act(obs, None), find_policy(tiny_config.policy).act(obs, None))


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(-1, 1, False), (-3, 3, False), (0, 1, False), (-np.inf, np.inf, False), (0.5, np.inf, False),
     (5, 10, True), (-200, -100, True), (-1000, 1000, True), (-0.001, 0.001, True)],
)  # fmt: skip
def test_bounds_far_from_what_a_fresh_policy_does_are_told(
    low: float, high: float, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spaces = Spaces((3,), "box", (2,), (-1.0, low), (1.0, high))
    tell_of_far_bounds(Policy(spaces, NetConfig(), 0, "Far-v0", {}))
    assert ("RescaleAction" in capsys.readouterr().err) == told


def test_cnns_for_a_reward_that_sees_no_pictures_are_refused(tiny_config: FinetuneConfig) -> None:
    config = replace(tiny_config, reward=replace(tiny_config.reward, pictures="heads"))
    with pytest.raises(UserError, match=r"--reward.pictures heads is for a policy that sees pictures.*leave it out"):
        prepare(config, None, None)


def test_what_a_run_would_hand_back_is_the_policy_that_came_in_until_it_learned(tiny_config: FinetuneConfig) -> None:
    run, parts = prepare(tiny_config, None, None)
    came_in = find_policy(tiny_config.policy)
    assert parts.result(run).acts_as(came_in)
    parts.hand_back(run, tiny_config)
    assert find_policy(run.path).acts_as(came_in) and (run.path / "reward.npz").exists()
    with torch.no_grad():
        next(parts.learner.policy.actor.parameters()).mul_(2)
    assert not parts.result(run).acts_as(came_in)


def test_a_round_that_is_planned_is_due_and_more_answers_come_before_the_last(tiny_config: FinetuneConfig) -> None:
    _, parts = prepare(tiny_config, None, None)
    planned = parts.votes.rounds
    assert [parts.votes.due(i) for i in range(8)] == [planned.get(i) for i in range(8)]
    assert [parts.votes.more_to_come(i) for i in range(8)] == [i < max(planned) for i in range(8)]


def test_the_scale_of_a_learned_reward_begins_with_its_first_fit_and_knows_what_was_before(
    tiny_config: FinetuneConfig,
) -> None:
    """Steps without a reward say nothing of its scale; returns that began before the fit do."""
    _, parts = prepare(tiny_config, None, None)
    rollouts = [random_rollout(np.random.default_rng(i), T=40, N=4, ends=0.0) for i in range(3)]
    for rollout in rollouts[:2]:
        parts.bank.add(rollout)
        assert parts.scaled(rollout) is rollout
    parts.reward = KnownReward(lambda steps: steps.env_reward + 1, scaled=False, ready=True)
    parts.bank.add(rollouts[2])
    now = parts.scaled(rollouts[2].with_reward(rollouts[2].env_reward + 1))
    expected = RewardScaler(4, tiny_config.ppo.gamma)
    whole = [expected(r.with_reward(r.env_reward + 1)) for r in rollouts]
    np.testing.assert_array_equal(now.reward, whole[-1].reward)
    parts.scaled(rollouts[2])
    assert parts.scaler is not None and parts.scaler.moments[0] == 4 * 40 * 4


def test_ends_cost_where_the_reward_is_learned(tiny_config: FinetuneConfig) -> None:
    learned, costly = np.array([[0.0, -3.0]], np.float32), replace(tiny_config, termination="penalty", end_costs=2.5)
    for told in (True, False):  # before anybody is asked
        asking = replace(costly, learn_end_costs=told, out=f"{costly.out}-{told}")
        paid = prepare(asking, None, None)[1].paid(learned)
        np.testing.assert_array_equal(paid, np.array([[2.5, -0.5]], np.float32))
        assert paid.dtype == np.float32
    for other in (replace(costly, termination="allow"), replace(costly, learn_from="oracle")):
        _, parts = prepare(replace(other, out=other.out + other.termination + other.learn_from), None, None)
        assert parts.paid(learned) is learned


def test_what_ends_cost_is_in_the_scale_from_the_first_fit_on(tiny_config: FinetuneConfig) -> None:
    _, parts = prepare(replace(tiny_config, termination="penalty", end_costs=2.0), None, None)
    rollouts = [random_rollout(np.random.default_rng(i), T=40, N=4, ends=0.1) for i in range(2)]
    for rollout in rollouts:
        parts.bank.add(rollout)
    parts.reward = KnownReward(lambda steps: steps.env_reward, scaled=False, ready=True)
    now = parts.scaled(rollouts[1].with_reward(parts.paid(rollouts[1].env_reward)))
    expected = RewardScaler(4, tiny_config.ppo.gamma)
    whole = [expected(r.with_reward(r.env_reward + 2)) for r in rollouts]
    np.testing.assert_array_equal(now.reward, whole[1].reward)
