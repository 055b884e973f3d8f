"""One environment that a person drives: stepped, drawn, and recorded step by step. No window here.

O observation, A action, D simulator state, H height, W width.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.feedback.recordings import Recording
from rlhf_control.simulation import pictures
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.simulator import Simulator, seen_whole
from rlhf_control.simulation.states import has_mujoco_data, step_seconds
from rlhf_control.viewer.play.controls import Controls, find_controls


@dataclass(frozen=True)
class Step:
    """Holds what one step leaves behind."""

    obs: Array  # (O,) as records keep it
    action: Array  # (A,) float32: as carried out
    next_obs: Array
    reward: float
    state: Array | None  # (D,) at `obs`
    frame: bytes  # a PNG of what was at `obs`, or empty
    taken: bool = True  # by a person, not by a policy


class Driver:
    """Steps an environment for a person. `steps` holds the episode so far; `over` says why it ended, and is empty while
    it goes on."""

    def __init__(self, env_id: str, env: Mapping[str, Any], *, seed: int = 0) -> None:
        self.env_id, self.arguments = env_id, {name: value for name, value in env.items() if name != "render_mode"}
        self.env = make(env_id, self.arguments)
        self.drawn_by_us = has_mujoco_data(self.env) and self.env.render_mode is None
        self.controls: Controls = find_controls(self.env, env_id)
        self._seed: int | None = seed
        self.simulator = Simulator(env_id, self.env)
        self.reset()

    @property
    def rate(self) -> float:
        """Returns the steps a second in real time."""
        return 1 / step_seconds(self.env)

    @property
    def sizes(self) -> tuple[int, int]:
        """Returns the sizes (O, A) of observation and action."""
        idle = self.controls.action(set(), 0)
        return self.obs.size, self.controls.executed(idle).size

    @property
    def reward(self) -> float:
        """Returns the environment's reward, summed over the episode so far."""
        return sum(step.reward for step in self.steps)

    @property
    def last(self) -> Array | None:
        """Returns the last action of the episode as it was carried out, (A,), if there was one."""
        return self.steps[-1].action if self.steps else None

    def reset(self, start: Array | None = None) -> None:
        """Begins a new episode: from the environment's own start, or from a stored state (D,)."""
        obs, _ = self.env.reset(seed=self._seed)
        self._seed = None  # once: the next episode is another one
        self.steps: list[Step] = []
        self.over = ""
        self.terminated = False
        self.stride = pictures.stride(1 / self.rate)
        if start is not None:
            self.simulator.put(start)
        self.obs = self.simulator.pack(obs) if start is None else self.simulator.observed()

    def state(self) -> Array | None:
        """Returns the state (D,) now, if the environment has one."""
        return self.simulator.state() if self.simulator.has_state else None

    def step(self, held: set[str]) -> None:
        """Makes one step with the action of the keys that are held. Raises UserError if the simulation breaks down."""
        action = self.controls.action(held, len(self.steps), self.last)
        self.act(action, self.controls.executed(action))

    def act(self, action: Any, executed: Array, *, taken: bool = True) -> None:
        """Makes one step with this action, which is carried out as `executed` (A,) float32; `taken`: by a person."""
        state, frame = self.state(), b""
        pictured = state is None or (has_mujoco_data(self.env) and not self.drawn_by_us)
        if pictured and len(self.steps) % self.stride == 0:
            frame = pictures.encode(self.rendered())
        next_obs, reward, terminated, truncated = self.simulator.step(action)
        if not np.isfinite(next_obs).all() or not np.isfinite(reward):
            raise UserError(f"the simulation of {self.env_id} broke down (not finite) at step {len(self.steps)}")
        self.steps.append(Step(self.obs, executed, next_obs, reward, state, frame, taken))
        self.obs, self.terminated = next_obs, bool(terminated)
        self.over = "the episode is over" if terminated else "the time limit is reached" if truncated else ""

    def recording(self) -> Recording:
        """Returns the episode so far; cut off here if it goes on."""
        ended = np.zeros(len(self.steps), bool)
        ended[-1] = True
        nothing = np.zeros_like(ended)
        s = self.segment()
        return Recording(
            self.env_id, self.arguments, s.obs, s.action, s.next_obs, s.env_reward,
            ended if self.terminated else nothing, nothing if self.terminated else ended, s.state, s.frames,
        )  # fmt: skip

    def segment(self) -> Segments:
        """Returns as a clip (L, ...) the episode so far."""
        columns = {name: [getattr(step, name) for step in self.steps] for name in ("obs", "action", "next_obs")}
        arrays = {name: np.stack(values) for name, values in columns.items()}
        reward = np.array([step.reward for step in self.steps], np.float32)
        states = [step.state for step in self.steps if step.state is not None]
        state = np.stack(widened(states)).astype(np.float64) if states else None
        frames = np.array([step.frame for step in self.steps], "S")
        return Segments(env_reward=reward, state=state, frames=frames if frames.any() or not states else None, **arrays)

    def rendered(self) -> Array:
        """Returns the picture (H, W, 3) by the environment itself."""
        return pictures.rendered(self.env, self.env_id)

    def close(self) -> None:
        """Closes the environment. Some environments bring pygame down when they are closed: close the window first."""
        self.env.close()


def make(env_id: str, arguments: Mapping[str, Any]) -> gymnasium.Env:
    """Makes one environment: MuJoCo's are drawn by ourselves if their states show all, the others draw themselves.
    Raises UserError."""
    env, drawing = make_env(env_id, arguments), partial(make_env, env_id, {**arguments, "render_mode": "rgb_array"})
    if has_mujoco_data(env) and seen_whole(env, drawing):
        return env
    env.close()
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # to draw, some call pygame.init(), which opens the sound
    return drawing()
