import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.errors import NonFiniteError, UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import join
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation.pictures import decode
from rlhf_control.simulation.rollouts import check_observations, collect, evaluate
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces, packing
from rlhf_control.training.trial import try_out
from tests.match_env import ACTIONS
from tests.simulation.policies import policy_for


@pytest.mark.parametrize(
    ("env_id", "backend", "env"),
    [
        ("Countdown-v0", "gymnasium", {}),
        ("Countdown-v0", "gymnasium", {"end": 5}),
        ("CartPole-v1", "gymnasium", {}),
        ("Hopper-v5", "batched", {}),
        ("Hopper-v5", "gymnasium", {}),
    ],
)
def test_next_obs_is_the_next_obs_except_where_an_episode_ended(env_id: str, backend: str, env: dict) -> None:
    envs = start_envs(env_id, 3, seed=0, backend=backend, env=env)
    policy = policy_for(env_id, env)
    whole = join([collect(envs, policy, 60, np.random.default_rng(i)) for i in range(2)])
    ended = whole.done[:-1]
    assert ended.any(), "the test needs ends"
    same = (whole.next_obs[:-1] == whole.obs[1:]).all(-1)
    assert same[~ended].all() and not same[ended].any()


def test_time_limit_truncates_and_termination_terminates() -> None:
    for env, field in (({}, "truncated"), ({"end": 5}, "terminated")):
        envs = start_envs("Countdown-v0", 2, seed=0, env=env)
        rollout = collect(envs, policy_for("Countdown-v0", env), 20, np.random.default_rng(0))
        length = 5 if env else 7
        assert (getattr(rollout, field)[length - 1 :: length]).all()
        assert rollout.done.sum() == getattr(rollout, field).sum() == 2 * (20 // length)
        assert (rollout.next_obs[length - 1, :, 1] == length).all()  # the true final observation, not the reset's
        assert rollout.episode_returns == (float(length),) * rollout.done.sum()
        assert set(rollout.episode_lengths) == {length}


def test_executed_actions_are_clipped_and_sampled_ones_are_kept() -> None:
    rollout = collect(
        start_envs("HalfCheetah-v5", 2, seed=0), policy_for("HalfCheetah-v5"), 30, np.random.default_rng(0)
    )
    assert np.abs(rollout.action).max() > 1
    np.testing.assert_array_equal(rollout.executed, np.clip(rollout.action, -1, 1))
    cart = collect(start_envs("CartPole-v1", 2, seed=0), policy_for("CartPole-v1"), 30, np.random.default_rng(0))
    assert cart.action.dtype == np.int64 and cart.executed.shape == (30, 2, 2)
    np.testing.assert_array_equal(cart.executed.argmax(-1), cart.action[..., 0])


@pytest.mark.parametrize(
    ("kind", "gradients"),
    [*((kind, "compiled") for kind in ACTIONS), ("box", "autograd"), ("multi-binary", "autograd")],
)
def test_ppo_learns_with_every_kind_of_action(kind: str, gradients: str) -> None:
    config = PPOConfig(num_envs=16, num_steps=32, minibatch_size=128, lr=3e-3, gamma=0.0, gradients=gradients)  # type: ignore[arg-type]
    envs = start_envs("Match-v0", 16, seed=0, env={"kind": kind})
    learner = PPO(Policy(envs.spaces, NetConfig((32,)), 0, "Match-v0", {"kind": kind}), config)
    rewards = []
    for i in range(30):
        rollout = collect(envs, learner, 32, np.random.default_rng(i))
        learner.update(rollout, np.random.default_rng(i), 0.0)
        rewards.append(rollout.reward.mean())
    assert rewards[0] < 0.7 < 0.85 < rewards[-1], rewards


@pytest.mark.parametrize(("env_id", "bound"), [("InvertedPendulum-v5", 3), ("Pusher-v5", 2), ("Humanoid-v5", 0.4)])
def test_bounds_of_mujoco_tasks_are_kept(env_id: str, bound: float) -> None:
    policy = policy_for(env_id)
    with torch.no_grad():
        policy.log_std.fill_(1.5)
    rollout = collect(start_envs(env_id, 2, seed=0), policy, 20, np.random.default_rng(0))
    assert np.abs(rollout.action).max() > bound and np.abs(rollout.executed).max() == np.float32(bound)


def test_batched_and_gymnasium_rollouts_are_bit_equal() -> None:
    policy = policy_for("HalfCheetah-v5")
    rollouts = [
        collect(start_envs("HalfCheetah-v5", 2, seed=5, backend=backend), policy, 50, np.random.default_rng(0))
        for backend in ("batched", "gymnasium")
    ]
    for name, value in vars(rollouts[0]).items():
        np.testing.assert_array_equal(value, vars(rollouts[1])[name], err_msg=name)
    assert rollouts[0].state is not None and rollouts[0].state.shape == (50, 2, 18)


def test_the_recorded_state_belongs_to_the_observation() -> None:
    rollout = collect(
        start_envs("HalfCheetah-v5", 2, seed=5), policy_for("HalfCheetah-v5"), 9, np.random.default_rng(0)
    )
    assert rollout.state is not None
    np.testing.assert_array_equal(rollout.obs, rollout.state[..., 1:].astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])  # the last one, in single precision
def test_nan_from_an_environment_names_environment_step_and_field(bad: float) -> None:
    env = {"nan_at": 4, "bad": bad}
    envs = start_envs("Countdown-v0", 2, seed=0, env=env)
    with pytest.raises(NonFiniteError, match=r"reward .* environment 0 at step 3"):
        collect(envs, policy_for("Countdown-v0", env), 10, np.random.default_rng(0))


def test_nan_from_a_reset_is_stopped_where_it_happens() -> None:
    env = {"nan_episode": 2}  # of each; two resets go before the first step
    envs = start_envs("Countdown-v0", 2, seed=0, env=env)
    with pytest.raises(NonFiniteError, match=r"first observation of an episode\[1\] .* environment 0 at step 6"):
        collect(envs, policy_for("Countdown-v0", env), 10, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("parts", "wrong", "name"),
    [
        ({"arm": Box(-9, 9, (3,)), "camera": Box(0, 255, (8, 8), np.uint8)}, ("arm", 1), r"observation arm\[1\]"),
        ({"arm": Box(-9, 9, (3,)), "depth": Box(0, 9, (2, 2))}, ("depth", (1, 0)), r"observation depth\[1, 0\]"),
        ({"arm": Box(-9, 9, (3,)), "gear": Discrete(3)}, ("arm", 2), r"observation arm\[2\]"),
        ({"arm": Dict(at=Box(-9, 9, (2,)), words=Box(0, 9, (2,), np.int64))}, ("arm", 0), r"observation arm/at\[0\]"),
        (None, ("", 1), r"observation\[1\]"),
    ],
)
def test_nan_in_an_observation_names_the_part_and_the_place(parts: Any, wrong: Any, name: str) -> None:
    """Of environments 4 and 5, the second one's."""
    space = Box(-9, 9, (3,)) if parts is None else Dict(parts)
    packed, pack = packing(space)
    spaces = Spaces.of(packed, Discrete(2))
    good = space.sample()
    bad: Any = copy.deepcopy(good)
    key, index = wrong
    array = bad if parts is None else bad[key]["at"] if isinstance(bad[key], dict) else bad[key]
    array[index] = np.nan
    check_observations(spaces.counted, "observation", pack(good)[None], 7, 4)
    with pytest.raises(NonFiniteError, match=rf"^{name} is not finite: nan in environment 5 at step 7"):
        check_observations(spaces.counted, "observation", np.stack([pack(good), pack(bad)]), 7, 4)


def test_a_nan_action_is_stopped_before_the_simulator() -> None:
    policy = policy_for("HalfCheetah-v5")
    policy.actor[-1].bias.data[0] = np.nan
    with pytest.raises(NonFiniteError, match=r"action .* step 0"):
        collect(start_envs("HalfCheetah-v5", 2, seed=0), policy, 3, np.random.default_rng(0))


def test_evaluate_gives_raw_returns_and_leaves_the_statistics_alone() -> None:
    policy = policy_for("HalfCheetah-v5")
    policy.obs_norm.update(np.random.default_rng(0).normal(size=(50, 17)))
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    returns, episodes = evaluate(policy, 3, seed=0)
    assert len(returns) == 3 and [len(e) for e in episodes] == [1000] * 3
    np.testing.assert_allclose(returns, [e.env_reward.sum() for e in episodes], rtol=1e-4, atol=1e-2)
    assert all((before[k] == v).all() for k, v in policy.state_dict().items())
    assert returns == evaluate(policy, 3, seed=0)[0] != evaluate(policy, 3, seed=1)[0]


def test_evaluate_counts_only_the_first_episode_of_each_environment() -> None:
    returns, episodes = evaluate(policy_for("Countdown-v0", {"end": 4}), 3, seed=0)
    assert returns == [4.0] * 3 and [len(e) for e in episodes] == [4] * 3


def test_what_an_environment_raises_in_its_first_step_is_said_with_its_arguments() -> None:
    env = {"g": "nope"}  # Pendulum looks at it when it steps
    words = (
        r"Pendulum-v1 with \{'g': 'nope'\} fails in step 1 of its episode 1: TypeError: .*pendulum.py:\d+\); .*--env"
    )
    with pytest.raises(UserError, match=words):
        evaluate(policy_for("Pendulum-v1", env), 1, seed=0)
    with pytest.raises(UserError, match=words):
        try_out(policy_for("Pendulum-v1", env), env, 2, 0, refuse_early=True)


# -- what people look at


def test_states_of_classic_control_belong_to_the_observation() -> None:
    rollout = collect(start_envs("CartPole-v1", 2, seed=0), policy_for("CartPole-v1"), 60, np.random.default_rng(0))
    assert rollout.state is not None and rollout.done.any() and rollout.frames is None
    np.testing.assert_array_equal(rollout.obs, rollout.state.astype(np.float32))
    _, (episode,) = evaluate(policy_for("Pendulum-v1"), 1, seed=0)
    assert episode.state is not None and episode.state.shape == (200, 3)
    np.testing.assert_allclose(episode.obs[:, 0], np.cos(episode.state[:, 0]), rtol=1e-6)


def test_episodes_are_recorded_too() -> None:
    _, episodes = evaluate(policy_for("Taxi-v4"), 2, seed=0, frames=True)
    assert all(e.frames is not None and e.frames.shape == (len(e),) and all(e.frames) for e in episodes)


def test_fast_environments_are_recorded_thirty_times_a_second_at_most() -> None:
    envs = start_envs("Blinking-v0", 2, seed=0, frames=True)  # 50 steps a second
    frames = collect(envs, policy_for("Blinking-v0"), 7, np.random.default_rng(0)).frames
    assert frames is not None
    assert [bool(frames[t, 0]) for t in range(7)] == [True, False, True, False, True, False, True]
    assert decode(frames[:, 0]).shape == (4, 160, 240, 3)
