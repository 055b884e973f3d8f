"""Environments of this folder's tests."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box


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


@pytest.fixture(autouse=True, scope="package")
def registered() -> Any:
    gymnasium.register("Countdown-v0", Countdown, max_episode_steps=7)
    gymnasium.register("Blinking-v0", Blinking, max_episode_steps=7)
    yield
    gymnasium.registry.pop("Countdown-v0")
    gymnasium.registry.pop("Blinking-v0")
