"""Anybody's environment, by Gymnasium: one after the other in this process, each brought back by replay."""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rlhf_control.data import Array
from rlhf_control.simulation.backends.protocol import StepResult
from rlhf_control.simulation.foreign import ForeignVectorEnv, make_env
from rlhf_control.simulation.mujoco_states import MujocoReader
from rlhf_control.simulation.pictures import encode, rendered
from rlhf_control.simulation.replayable import PackObservation, Replayable, probe
from rlhf_control.simulation.simulator import seen_whole
from rlhf_control.simulation.states import draws_itself, state_reader, step_seconds


class GymnasiumBackend:
    """Steps Gymnasium's environments one after the other. Satisfies `protocol.Backend`."""

    def __init__(self, env_id: str, num_envs: int, env: Mapping[str, Any], first: int = 0) -> None:
        self.name, self.twin = env_id, partial(make_flat, env_id, env)
        self.envs: list[Replayable] = []
        self.vector = ForeignVectorEnv([partial(self._made, first + i) for i in range(num_envs)])
        self.step_seconds = step_seconds(self.envs[0])
        self.draws = draws_itself(self.envs[0])

    def _made(self, number: int) -> Replayable:
        self.envs.append(self.twin(number))
        return self.envs[-1]

    def reset(self, seed: int | None = None) -> Array:
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        obs, reward, terminated, truncated, info = self.vector.step(action)
        return StepResult(obs, reward, terminated, truncated, info.get("final_obs"))

    @cached_property
    def read(self) -> Callable[[], Array] | None:
        """Reads their states, which are held against those of when it is first asked for."""
        return state_reader(self.envs)

    def states(self) -> Array | None:
        return self.read() if self.read else None

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        drawing = {**env, "render_mode": "rgb_array"}
        return self.read is not None and seen_whole(self.envs[0], lambda: make_env(env_id, drawing))

    def picture(self, i: int) -> Array:
        return rendered(self.envs[i], self.name)

    def png(self, i: int) -> bytes:
        return encode(self.picture(i))

    def state(self) -> dict[str, Any]:
        watched = self.read.fields if isinstance(self.read, MujocoReader) else []
        return {"inner": {str(i): env.snapshot() for i, env in enumerate(self.envs)}, "watched": watched}

    def load_state(self, state: Mapping[str, Any]) -> Array:
        if isinstance(self.read, MujocoReader):
            self.read.watch(state.get("watched", []))  # older checkpoints have none
        return np.stack([env.restore(state["inner"][str(i)]) for i, env in enumerate(self.envs)])

    def probe(self) -> str:
        return probe(self.twin)

    def close(self) -> None:
        self.vector.close()


def make_flat(env_id: str, kwargs: Mapping[str, Any], number: int = 0) -> Replayable:
    """Makes one environment that can be resumed. Observations other than a Box (Dict, Discrete, ...) are packed into
    one array: see `spaces.packing`."""
    env = make_env(env_id, kwargs, number)
    return Replayable(env if isinstance(env.observation_space, Box) else PackObservation(env))
