from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from envs import MujocoVectorEnv
from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.errors import NonFiniteError, UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import join
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation import early_ends
from rlhf_control.simulation.early_ends import fixed_horizon
from rlhf_control.simulation.make import make_envs
from rlhf_control.simulation.pictures import decode, encode
from rlhf_control.simulation.rollouts import collect, evaluate
from rlhf_control.simulation.vector import start_envs
from rlhf_control.training.trial import try_out
from tests.match_env import ACTIONS


class Countdown(gymnasium.Env):
    """Observes (episode, step); ends by itself after `end` steps; its reward is 1, or NaN at step `nan_at`."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(-1, 1, (1,))

    def __init__(self, end: int = 10**9, nan_at: int = -1, bad: float = np.nan, nan_episode: int = -1) -> None:
        self.end, self.nan_at, self.bad, self.nan_episode, self.episode = end, nan_at, bad, nan_episode, -1

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.episode, self.step_count = self.episode + 1, 0
        return np.array([self.episode, np.nan if self.episode == self.nan_episode else 0], np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), "the environment gets executed actions only"
        self.step_count += 1
        reward = self.bad if self.step_count == self.nan_at else 1.0
        return np.array([self.episode, self.step_count], np.float32), reward, self.step_count >= self.end, False, {}


class Blinking(Countdown):
    """Draws itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((400, 600, 3), 20 * self.step_count % 256, np.uint8)


@pytest.fixture(autouse=True, scope="module")
def registered() -> Any:
    gymnasium.register("Countdown-v0", Countdown, max_episode_steps=7)
    gymnasium.register("Blinking-v0", Blinking, max_episode_steps=7)
    yield
    gymnasium.registry.pop("Countdown-v0")
    gymnasium.registry.pop("Blinking-v0")


def policy_for(env_id: str, env: dict | None = None, hidden: tuple[int, ...] = (8,)) -> Policy:
    return Policy(start_envs(env_id, 1, seed=0, env=env).spaces, NetConfig(hidden, 1.0), 0, env_id, env or {})


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


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_kind_of_action_reaches_the_environment_as_its_space_has_it(kind: str) -> None:
    """Match asserts it. A policy that knows what is wanted gets the whole reward; a bound other than 1 clips."""
    envs = start_envs("Match-v0", 3, seed=0, env={"kind": kind})
    rollout = collect(envs, policy_for("Match-v0", {"kind": kind}), 30, np.random.default_rng(0))
    assert rollout.truncated.any() and np.isfinite(rollout.reward).all()
    if kind == "box":
        low, high = ACTIONS["box"].low, ACTIONS["box"].high  # type: ignore[attr-defined]
        assert (rollout.executed >= low).all() and (rollout.executed <= high).all()
        assert ((rollout.executed == low).any((0, 1)) & (rollout.executed == high).any((0, 1))).all()
        assert (rollout.action < low).any() and (rollout.action > high).any()
    else:
        sizes = envs.spaces.choices
        parts = np.split(rollout.executed, np.cumsum(sizes)[:-1], -1)
        np.testing.assert_array_equal(np.stack([p.argmax(-1) for p in parts], -1), rollout.action)
        assert (rollout.executed.sum(-1) == len(sizes)).all()
        assert (rollout.action.max((0, 1)) == np.array(sizes) - 1).all() and (rollout.action.min((0, 1)) == 0).all()


def test_a_dict_is_flattened_in_the_order_of_its_keys() -> None:
    envs = start_envs("Match-v0", 2, seed=0)
    assert envs.spaces.obs_shape == (3 + 4 + 2,)  # "a" one-hot, "m", "z"
    np.testing.assert_array_equal(envs.obs[:, :3].sum(1), 1)
    np.testing.assert_array_equal(envs.obs[:, 3:7], 0.5)
    assert all(ACTIONS["box"].contains(row) for row in envs.obs[:, 7:])


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
@pytest.mark.parametrize("kind", ACTIONS)
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


@pytest.mark.parametrize(
    ("env_id", "backend"),
    [
        ("HalfCheetah-v5", "batched"),
        ("HalfCheetah-v5", "gymnasium"),
        ("CartPole-v1", "gymnasium"),
        ("Hopper-v5", "batched"),
    ],
)
def test_state_continues_bit_equal(env_id: str, backend: str) -> None:
    policy = policy_for(env_id)
    envs = start_envs(env_id, 3, seed=1, backend=backend)
    collect(envs, policy, 37, np.random.default_rng(0))
    state = envs.state()
    expected = collect(envs, policy, 80, np.random.default_rng(1))
    other = start_envs(env_id, 3, seed=99, backend=backend)
    other.load_state(state)
    again = collect(other, policy, 80, np.random.default_rng(1))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(value, vars(again)[name], err_msg=name)


def test_an_environment_that_counts_its_episodes_goes_on_counting() -> None:
    envs = start_envs("Countdown-v0", 2, seed=0)
    collect(envs, policy_for("Countdown-v0"), 20, np.random.default_rng(0))
    other = start_envs("Countdown-v0", 2, seed=0)  # its first observation counts episodes, outside of any generator
    other.load_state(envs.state())
    assert not other.differs and (other.obs == envs.obs).all() and (envs.obs[:, 0] > 2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])  # the last one, in single precision
def test_nan_from_an_environment_names_environment_step_and_field(bad: float) -> None:
    env = {"nan_at": 4, "bad": bad}
    envs = start_envs("Countdown-v0", 2, seed=0, env=env)
    with pytest.raises(NonFiniteError, match=r"reward .* environment 0 at step 3"):
        collect(envs, policy_for("Countdown-v0", env), 10, np.random.default_rng(0))


def test_nan_from_a_reset_is_stopped_where_it_happens() -> None:
    env = {"nan_episode": 2}  # of each; two resets go before the first step
    envs = start_envs("Countdown-v0", 2, seed=0, env=env)
    with pytest.raises(NonFiniteError, match=r"first observation of an episode .* environment 0 at step 6"):
        collect(envs, policy_for("Countdown-v0", env), 10, np.random.default_rng(0))


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


@pytest.mark.parametrize(
    ("env_id", "env", "words"),
    [
        ("HalfChetah-v5", {}, "did you mean HalfCheetah-v5"),
        ("HalfCheetah-v5", {"nonsense": 1}, "nonsense"),
        ("CartPole-v1", {"nonsense": 1}, "nonsense"),
        ("nowhere:Thing-v0", {}, "cannot make"),
    ],
)
def test_an_environment_that_cannot_be_made(env_id: str, env: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        start_envs(env_id, 1, seed=0, env=env)


def test_what_an_environment_raises_in_its_first_step_is_said_with_its_arguments() -> None:
    env = {"g": "nope"}  # Pendulum looks at it when it steps
    words = (
        r"Pendulum-v1 with \{'g': 'nope'\} fails in step 1 of its episode 1: TypeError: .*pendulum.py:\d+\); .*--env"
    )
    with pytest.raises(UserError, match=words):
        evaluate(policy_for("Pendulum-v1", env), 1, seed=0)
    with pytest.raises(UserError, match=words):
        try_out(policy_for("Pendulum-v1", env), env, 2, 0, refuse_early=True)


def test_what_it_raises_later_is_said_with_its_place() -> None:
    envs = start_envs("Pendulum-v1", 1, seed=0)
    action = np.zeros((1, 1), np.float32)
    envs.step(action, action)
    envs.vector.envs[0].unwrapped.g = "nope"  # type: ignore[attr-defined]
    with pytest.raises(
        UserError, match=r"environment 0 \(seed 0\) of Pendulum-v1 fails in step 2 of .* TypeError: .*\d\)$"
    ):
        envs.step(action, action)


@pytest.mark.parametrize("backend", ["batched", "gymnasium"])
def test_make_envs_gives_gymnasiums_vector_environments(backend: str) -> None:
    envs = make_envs("Hopper-v5", 3, seed=5, backend=backend, terminate_when_unhealthy=False)
    assert isinstance(envs, gymnasium.vector.VectorEnv)
    action = np.zeros((3, 3), np.float32)
    first, *_ = envs.step(action)  # reset already
    envs.reset(seed=5)
    obs, reward, terminated, truncated, _ = envs.step(action)
    np.testing.assert_array_equal(obs, first)
    assert obs.shape == (3, 11) and reward.shape == terminated.shape == truncated.shape == (3,)
    for _ in range(200):
        assert not envs.step(np.ones((3, 3), np.float32))[2].any()  # it has long fallen
    envs.close()


@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
@pytest.mark.parametrize(
    ("env_id", "env", "words"),
    [
        ("Hopper-v5", {"terminate_when_unhealthy": "false"}, "terminate_when_unhealthy of Hopper-v5 .* True or False"),
        ("Hopper-v5", {"terminate_when_unhealthy": 2}, "True or False, not 2"),
        ("HalfCheetah-v5", {"exclude_current_positions_from_observation": 0.5}, "True or False, not 0.5"),
        ("FrozenLake-v1", {"is_slippery": "False"}, "is_slippery of FrozenLake-v1 .* True or False, not 'False'"),
        ("Hopper-v5", {"frame_skip": 1.0}, "frame_skip of Hopper-v5 is a whole number"),
        ("Reacher-v5", {"xml_file": "hopper.xml"}, "fingertip"),
    ],
)
def test_a_misread_argument_is_refused_in_one_line(backend: str, env_id: str, env: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make_envs(env_id, 1, seed=0, backend=backend, **env)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["batched", "gymnasium"])
@pytest.mark.parametrize("value", [1, 0, np.True_, False])
def test_a_bool_may_be_a_number_and_the_last_observations_stay_those_of_their_environments(
    backend: str, value: Any
) -> None:
    envs = start_envs("Hopper-v5", 3, seed=0, backend=backend, env={"terminate_when_unhealthy": value})
    rng = np.random.default_rng(0)
    ended = False
    for _ in range(60):
        action = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        _, _, terminated, _ = envs.step(action, action)
        assert terminated.dtype == bool
        ended = ended or bool(terminated.any())
    assert ended == bool(value)


@pytest.mark.parametrize(
    "env",
    [
        {"width": 64, "height": 64},
        {"camera_name": "track"},
        {"camera_id": 0},
        {"default_camera_config": {"distance": 4.0}},
        {"max_geom": 100},
        {"visual_options": {}},
        {"render_mode": None},
        {"disable_env_checker": True},
        {"max_episode_steps": -1},
        {"main_body": np.int64(1)},
    ],
)
def test_what_gymnasium_accepts_stays_batched(env: dict) -> None:
    assert isinstance(make_envs("Ant-v5", 2, seed=0, **env), MujocoVectorEnv)


def test_a_render_mode_takes_gymnasiums_own(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_envs("Ant-v5", 2, seed=0, render_mode="rgb_array")
    assert isinstance(envs, gymnasium.vector.SyncVectorEnv) and envs.render_mode == "rgb_array"
    envs.close()
    with pytest.raises(UserError, match="do not draw"):
        make_envs("Ant-v5", 2, seed=0, backend="batched", render_mode="rgb_array")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="needs a display"):
        make_envs("Ant-v5", 2, seed=0, render_mode="human")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5"])
@pytest.mark.parametrize("num_envs", [0, -3])
def test_no_environments(env_id: str, num_envs: int) -> None:
    with pytest.raises(UserError, match=f"cannot make {num_envs} environments of {env_id}"):
        make_envs(env_id, num_envs, seed=0)


def test_an_unknown_backend() -> None:
    with pytest.raises(UserError, match="did you mean batched"):
        make_envs("Hopper-v5", 1, seed=0, backend="batch")


def test_backend_batched_needs_a_batched_environment() -> None:
    with pytest.raises(UserError, match="no batched version"):
        start_envs("CartPole-v1", 1, seed=0, backend="batched")


def test_early_ends_are_found_and_switched_off() -> None:
    for env_id in ("Hopper-v5", "CartPole-v1"):
        with pytest.raises(UserError, match="--termination"):
            try_out(policy_for(env_id), {}, 2, 0, refuse_early=True)
    try_out(policy_for("HalfCheetah-v5"), {}, 2, 0, refuse_early=True)
    env = fixed_horizon("Hopper-v5", {"forward_reward_weight": 2.0})
    assert env == {"forward_reward_weight": 2.0, "terminate_when_unhealthy": False}
    try_out(policy_for("Hopper-v5"), env, 2, 0, refuse_early=True)
    with pytest.raises(UserError, match="truncate or allow"):
        fixed_horizon("CartPole-v1", {})
    with pytest.raises(UserError, match="truncate or allow"):
        fixed_horizon("gymnasium:CartPole-v1", {})


# -- what people look at


def test_states_of_classic_control_belong_to_the_observation() -> None:
    rollout = collect(start_envs("CartPole-v1", 2, seed=0), policy_for("CartPole-v1"), 60, np.random.default_rng(0))
    assert rollout.state is not None and rollout.done.any() and rollout.frames is None
    np.testing.assert_array_equal(rollout.obs, rollout.state.astype(np.float32))
    _, (episode,) = evaluate(policy_for("Pendulum-v1"), 1, seed=0)
    assert episode.state is not None and episode.state.shape == (200, 3)
    np.testing.assert_allclose(episode.obs[:, 0], np.cos(episode.state[:, 0]), rtol=1e-6)


def test_pictures_are_recorded_where_there_is_no_state_and_only_then() -> None:
    policy = policy_for("Taxi-v4")
    envs = start_envs("Taxi-v4", 2, seed=0, frames=True)
    rollout = collect(envs, policy, 5, np.random.default_rng(0))
    assert envs.frames and rollout.frames is not None and rollout.frames.shape == (5, 2) and rollout.state is None
    bare = gymnasium.make("Taxi-v4", render_mode="rgb_array")
    bare.reset(seed=1)
    for t in range(5):  # the second environment's, at each observation
        assert rollout.frames[t, 1] == encode(bare.render())  # type: ignore[arg-type]
        bare.step(int(rollout.action[t, 1, 0]))
    envs.frames = False
    assert collect(envs, policy, 5, np.random.default_rng(0)).frames is None
    envs.frames = True
    assert collect(envs, policy, 5, np.random.default_rng(0)).frames is not None

    plain = collect(start_envs("Taxi-v4", 2, seed=0), policy, 5, np.random.default_rng(0))
    assert plain.frames is None
    for name, value in vars(plain).items():
        if name != "frames":  # the pictures change nothing else
            np.testing.assert_array_equal(value, vars(rollout)[name], err_msg=name)

    for env_id, backend in (("Hopper-v5", "batched"), ("Hopper-v5", "gymnasium"), ("CartPole-v1", "auto")):
        envs = start_envs(env_id, 2, seed=0, backend=backend, frames=True)
        envs.frames = True  # nothing to record
        assert not envs.frames and collect(envs, policy_for(env_id), 3, np.random.default_rng(0)).frames is None


def test_episodes_are_recorded_too() -> None:
    _, episodes = evaluate(policy_for("Taxi-v4"), 2, seed=0, frames=True)
    assert all(e.frames is not None and e.frames.shape == (len(e),) and all(e.frames) for e in episodes)


def test_fast_environments_are_recorded_thirty_times_a_second_at_most() -> None:
    envs = start_envs("Blinking-v0", 2, seed=0, frames=True)  # 50 steps a second
    frames = collect(envs, policy_for("Blinking-v0"), 7, np.random.default_rng(0)).frames
    assert frames is not None
    assert [bool(frames[t, 0]) for t in range(7)] == [True, False, True, False, True, False, True]
    assert decode(frames[:, 0]).shape == (4, 160, 240, 3)


def test_an_environment_that_nobody_can_see_is_refused() -> None:
    with pytest.raises(UserError, match="people cannot judge clips of Countdown-v0"):
        start_envs("Countdown-v0", 1, seed=0, frames=True)
