"""Batched MuJoCo: the tasks of `envs.mujoco`, stepped on all cores outside Python's lock."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs import MujocoVectorEnv, SimulationError, has_batched
from rlhf_control.data import Array
from rlhf_control.errors import NonFiniteError, UserError
from rlhf_control.simulation.backends.protocol import StepResult
from rlhf_control.simulation.pictures import encode


class MujocoBackend:
    """Steps our batched MuJoCo environments. Satisfies `protocol.Backend`."""

    draws = False

    def __init__(self, env_id: str, num_envs: int, env: Mapping[str, Any], first: int = 0) -> None:
        if not has_batched(env_id):
            raise UserError(f"{env_id} has no batched version; use --backend auto")
        self.vector = MujocoVectorEnv(env_id, num_envs, **env)
        self.step_seconds = self.vector.dt
        self.first = first  # the number of the first one in errors
        self.cut_off_after = 0  # unhealthy steps on end; 0: only the time limit, or a termination, ends an episode
        self.unhealthy = np.zeros(num_envs, np.int64)  # such steps up to now

    def reset(self, seed: int | None = None) -> Array:
        self.unhealthy[:] = 0
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        self.vector.infos = False  # nobody reads them here
        try:
            obs, reward, terminated, truncated, info = self.vector.step(action)
        except SimulationError as error:
            place = f"environment {error.env_index + self.first}: {error.field}: {error.problem}"
            raise NonFiniteError(f"the simulation diverged: {place}; lower the learning rate") from error
        result = StepResult(obs, reward, terminated, truncated, info.get("final_obs"))
        return self._cut_off(result) if self.cut_off_after else result

    def _cut_off(self, result: StepResult) -> StepResult:
        """Begins new episodes where one has been unhealthy for so long, which counts as truncated."""
        obs, truncated, last = result.obs, result.truncated, result.last
        self.unhealthy = np.where(truncated | ~self.vector.unhealthy(), 0, self.unhealthy + 1)
        cut = self.unhealthy >= self.cut_off_after
        if not cut.any():
            return result
        last = np.full(len(obs), None, object) if last is None else last
        for i in np.flatnonzero(cut):
            last[i] = obs[i].copy()
        self.unhealthy[cut] = 0
        begun = self.vector.reset(options={"reset_mask": cut})[0]
        return result._replace(obs=begun, truncated=truncated | cut, last=last)

    def elapse(self, steps: Array) -> None:
        """Has the time limit count so many steps (N,) of the running episodes as taken."""
        self.vector.restore(self.vector.snapshot() | {"elapsed_steps": steps})

    def states(self) -> Array:
        return self.vector.states

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        return True

    def picture(self, i: int) -> Array:
        raise UserError("batched environments do not draw themselves; use the backend gymnasium")

    def png(self, i: int) -> bytes:
        return encode(self.picture(i))

    def state(self) -> dict[str, Any]:
        return {"inner": self.vector.snapshot(), "watched": [], "unhealthy": self.unhealthy.copy()}

    def load_state(self, state: Mapping[str, Any]) -> Array:
        self.unhealthy = np.array(state.get("unhealthy", np.zeros_like(self.unhealthy)))  # older checkpoints have none
        return self.vector.restore(state["inner"])

    def probe(self) -> str:
        return ""

    def close(self) -> None:
        self.vector.close()
