from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.errors import UserError
from rlhf_control.simulation.pictures import decode, encode
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from tests.match_env import ACTIONS
from tests.simulation.policies import policy_for


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


def test_an_environment_that_nobody_can_see_is_refused() -> None:
    with pytest.raises(UserError, match="people cannot judge clips of Countdown-v0"):
        start_envs("Countdown-v0", 1, seed=0, frames=True)


class Watched(gymnasium.Env):
    """Observes a picture and does not draw itself."""

    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.t = 0
        return np.full((16, 16, 3), 10, np.uint8), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.full((16, 16, 3), 10 + self.t, np.uint8), 0.0, False, False, {}


def test_people_see_the_picture_that_the_policy_observes(monkeypatch: pytest.MonkeyPatch) -> None:
    gymnasium.register("Watched-v0", Watched, max_episode_steps=50)
    envs = start_envs("Watched-v0", 2, seed=0, frames=True)
    assert envs.frames and envs.obs.dtype == np.uint8 and envs.obs.shape == (2, 768)
    envs.step(np.zeros((2, 1), np.int64), envs.spaces.execute(np.zeros((2, 1), np.int64)))
    assert decode(np.array(envs.pictures(0), "S"))[1].max() == 11
    envs.frames = False
    assert not envs.frames
    gymnasium.registry.pop("Watched-v0")
