"""Batched MuJoCo: the tasks of `envs.mujoco`, stepped on all cores outside Python's lock."""

from collections.abc import Mapping
from typing import Any

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

    def reset(self, seed: int | None = None) -> Array:
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        self.vector.infos = False  # nobody reads them here
        try:
            obs, reward, terminated, truncated, info = self.vector.step(action)
        except SimulationError as error:
            place = f"environment {error.env_index + self.first}: {error.field}: {error.problem}"
            raise NonFiniteError(f"the simulation diverged: {place}; lower the learning rate") from error
        return StepResult(obs, reward, terminated, truncated, info.get("final_obs"))

    def states(self) -> Array:
        return self.vector.states

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        return True

    def picture(self, i: int) -> Array:
        raise UserError("batched environments do not draw themselves; use the backend gymnasium")

    def png(self, i: int) -> bytes:
        return encode(self.picture(i))

    def state(self) -> dict[str, Any]:
        return {"inner": self.vector.snapshot(), "watched": []}

    def load_state(self, state: Mapping[str, Any]) -> Array:
        return self.vector.restore(state["inner"])

    def probe(self) -> str:
        return ""

    def close(self) -> None:
        self.vector.close()
