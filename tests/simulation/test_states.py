"""Reading the state of real environments."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rlhf_control.simulation.simulator import seen_whole
from rlhf_control.simulation.states import (
    has_mujoco_data,
    is_classic,
    put_classic,
    state_reader,
    step_seconds,
)
from rlhf_control.simulation.vector import start_envs


def copies(env_id: str, n: int = 2) -> list[gymnasium.Env]:
    envs = [gymnasium.make(env_id) for _ in range(n)]
    for i, env in enumerate(envs):
        env.reset(seed=i)
        env.action_space.seed(i)
    return envs


@pytest.mark.parametrize(
    ("env_id", "size"),
    [
        ("CartPole-v1", 4),
        ("Pendulum-v1", 3),
        ("MountainCar-v0", 2),
        ("MountainCarContinuous-v0", 2),
        ("Acrobot-v1", 4),
        ("Hopper-v5", 12),
    ],
)
def test_states_are_those_of_the_environments(env_id: str, size: int) -> None:
    envs = copies(env_id)
    read = state_reader(envs)
    assert read is not None
    before = read()
    assert before.shape == (2, size) and before.dtype == np.float64 and (before[0] != before[1]).any()
    for env in envs:
        env.step(env.action_space.sample())
    after = read()
    assert (before != after).any(1).all(), "a state is a copy, and of the moment"
    if env_id == "Pendulum-v1":
        assert (before[:, 2] == 0).all()  # no torque yet
        np.testing.assert_array_equal(after[:, 2], [env.unwrapped.last_u for env in envs])  # type: ignore[attr-defined]
    for env in envs:
        env.reset()  # as at the end of an episode
    assert (read() != after).any(1).all()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "Acrobot-v1"])
def test_classic_control_is_brought_back(env_id: str) -> None:
    source, target = copies(env_id)
    source.step(source.action_space.sample())
    (state,) = state_reader([source])()  # type: ignore[misc]
    put_classic(target, state)
    np.testing.assert_array_equal(state_reader([target])()[0], state)  # type: ignore[misc]


def test_what_shows_more_than_its_state_has_none() -> None:
    (taxi,) = copies("Taxi-v4", 1)
    assert state_reader([taxi]) is None and not is_classic(taxi) and not has_mujoco_data(taxi)


@pytest.mark.parametrize(("rate", "seconds"), [(50, 0.02), (12.5, 0.08), *[(r, 1 / 30) for r in (None, 0, -1, "20")]])
def test_a_step_lasts_as_long_as_the_environment_says(rate: object, seconds: float) -> None:
    (env,) = copies("Taxi-v4", 1)
    env.unwrapped.metadata = {"render_fps": rate}
    assert step_seconds(env) == pytest.approx(seconds)
    env.unwrapped.metadata = {}
    assert step_seconds(env) == pytest.approx(1 / 30)


def test_a_step_of_mujoco_lasts_as_long_as_simulated() -> None:
    (hopper,) = copies("Hopper-v5", 1)
    for metadata in ({}, {"render_fps": None}, {"render_fps": 30}):
        hopper.unwrapped.metadata = metadata
        assert step_seconds(hopper) == pytest.approx(0.008)


class Flagged(CartPoleEnv):
    """Draws more than Gymnasium's."""

    def render(self) -> np.ndarray:
        picture = np.array(super().render())
        picture[:20, :20] = self.flag if hasattr(self, "flag") else 0
        return picture


class Short(CartPoleEnv):
    """Draws itself as Gymnasium's, by a variable that its state does not have."""

    def reset(self, **kwargs: object) -> object:
        found = super().reset(**kwargs)  # type: ignore[arg-type]
        self.length = float(self.np_random.uniform(0.1, 0.9))
        return found


def test_variants_of_classic_control_that_show_more_are_recorded() -> None:
    gymnasium.register("Flagged-v0", Flagged)
    gymnasium.register("Short-v0", Short)
    try:
        (flagged, short) = (copies(env_id, 1)[0] for env_id in ("Flagged-v0", "Short-v0"))
        assert not is_classic(flagged) and state_reader([flagged]) is None
        assert is_classic(short) and not seen_whole(short, lambda: gymnasium.make("Short-v0", render_mode="rgb_array"))
        for env_id in ("Flagged-v0", "Short-v0"):
            assert start_envs(env_id, 1, seed=0, frames=True).frames
    finally:
        for env_id in ("Flagged-v0", "Short-v0"):
            gymnasium.registry.pop(env_id)
