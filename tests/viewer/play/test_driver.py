import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlhf_control.errors import UserError
from rlhf_control.feedback.recordings import cut, load_recording, save_recording
from rlhf_control.simulation.pictures import decode
from rlhf_control.simulation.vector import start_envs
from rlhf_control.viewer.play.driver import Driver


class Lights(gymnasium.Env):
    """Has no state to draw from, so its pictures are recorded."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, broken: bool = False) -> None:
        self.observation_space, self.action_space = Box(0, 99, (2, 2)), Discrete(2)
        self.render_mode, self.broken, self.t = render_mode, broken, 0

    def reset(self, **kwargs: object) -> tuple[np.ndarray, dict[str, object]]:
        super().reset(seed=None)
        self.t = 0
        return np.zeros((2, 2), np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        self.t += 1
        value = np.nan if self.broken else self.t
        return np.full((2, 2), value, np.float32), float(action), self.t == 5, False, {}

    def render(self) -> np.ndarray:
        return np.full((20, 30, 3), 40 * self.t, np.uint8)


gymnasium.register("Lights-v0", Lights, disable_env_checker=True)


def test_steps_are_those_of_a_rollout() -> None:
    driver = Driver("HalfCheetah-v5", {}, seed=3)
    envs = start_envs("HalfCheetah-v5", 1, seed=3)
    np.testing.assert_allclose(driver.obs, envs.obs[0], rtol=1e-6)
    for t in range(5):
        driver.step({"q", "j"})
        action = driver.steps[t].action
        next_obs, reward, *_ = envs.step(action[None], action[None])
        np.testing.assert_allclose(driver.steps[t].next_obs, next_obs[0], rtol=1e-5, atol=1e-6)
        assert driver.steps[t].reward == pytest.approx(float(reward[0]), abs=1e-5)
    assert driver.rate == pytest.approx(20) and driver.sizes == (17, 6)
    segment = driver.segment()
    assert segment.state is not None and segment.state.shape == (5, 18)
    np.testing.assert_array_equal(segment.obs[1:], segment.next_obs[:-1])


def test_starts_from_a_stored_state() -> None:
    driver = Driver("HalfCheetah-v5", {})
    for _ in range(3):
        driver.step({"q"})
    state, obs = driver.steps[2].state, driver.steps[2].obs
    assert state is not None
    again = Driver("HalfCheetah-v5", {}, seed=7)
    again.reset(state)
    np.testing.assert_allclose(again.obs, obs, atol=1e-6)
    again.step({"q"})
    np.testing.assert_allclose(again.steps[0].next_obs, driver.steps[2].next_obs, atol=1e-3)
    with pytest.raises(
        UserError, match="states have 4 numbers, which do not fit the model with its 9 positions and 9 velocities"
    ):
        again.reset(np.zeros(4))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0"])
def test_classic_control_starts_from_a_stored_state_too(env_id: str) -> None:
    driver = Driver(env_id, {})
    for _ in range(3):
        driver.step({"left"})
    last = driver.steps[2]
    assert last.state is not None
    driver.reset(last.state)
    np.testing.assert_allclose(driver.obs, last.obs, atol=1e-6)
    driver.step({"left"})
    np.testing.assert_allclose(driver.steps[0].next_obs, last.next_obs, atol=1e-5)


def test_the_end_of_an_episode() -> None:
    driver = Driver("CartPole-v1", {})
    while not driver.over:
        driver.step({"left"})
    recording = driver.recording()
    assert driver.over == "the episode is over" and driver.terminated
    assert recording.terminated[-1] and not recording.truncated.any() and driver.reward == len(recording)
    driver.reset()
    assert driver.over == "" and driver.steps == []
    driver.step(set())
    recording = driver.recording()  # cut off by the person
    assert recording.truncated.tolist() == [True] and not recording.terminated.any()


def test_pictures_are_recorded_where_there_is_no_state(tmp_path: object) -> None:
    driver = Driver("Lights-v0", {})
    for _ in range(5):
        driver.step({"2"})
    recording = driver.recording()
    assert recording.state is None and recording.frames is not None
    assert [bool(png) for png in recording.frames] == [True, False, True, False, True]  # 60 steps a second, 30 pictures
    assert decode(recording.frames)[:, 0, 0, 0].tolist() == [0, 80, 160]
    save_recording(f"{tmp_path}/play.npz", recording)
    clips = cut(load_recording(f"{tmp_path}/play.npz"), 2)
    assert clips.frames is not None and clips.frames.shape == (2, 2) and clips.obs.shape == (2, 2, 4)
    assert clips.action[0].tolist() == [[0, 1], [0, 1]]


def test_a_simulation_that_breaks_down_is_stopped() -> None:
    driver = Driver("Lights-v0", {"broken": True})
    with pytest.raises(UserError, match="broke down"):
        driver.step(set())
    assert driver.steps == []


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean HalfCheetah-v5"):
        Driver("HalfCheeta-v5", {})
    with pytest.raises(UserError, match="cannot make CartPole-v1"):
        Driver("CartPole-v1", {"wheels": 3})
