"""Our own games: all of them stepped by one call in C, each drawn from its state."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs import GAMES
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.simulation.backends.protocol import StepResult
from rlhf_control.simulation.pictures import encode


class GamesBackend:
    """Satisfies `protocol.Backend`."""

    draws = False

    def __init__(self, env_id: str, num_envs: int, env: Mapping[str, Any], first: int = 0) -> None:
        if env_id not in GAMES:
            raise UserError(f"{env_id} is none of our own games; use --backend auto")
        if env.get("render_mode") is not None:
            raise UserError("games that are stepped together do not draw; leave out render_mode or use --backend auto")
        self.env_id = env_id
        self.vector = GAMES[env_id](num_envs, **env)
        self.step_seconds = 1 / self.vector.metadata["render_fps"]

    def reset(self, seed: int | None = None) -> Array:
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        obs, reward, terminated, truncated, info = self.vector.step(action)
        return StepResult(obs, reward, terminated, truncated, info.get("final_obs"))

    def states(self) -> Array:
        return self.vector.states.astype(np.float64)

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        return True

    def picture(self, i: int) -> Array:
        raise UserError("games that are stepped together do not draw themselves; use the backend gymnasium")

    def png(self, i: int) -> bytes:
        return encode(self.picture(i))

    def state(self) -> dict[str, Any]:
        return {"inner": {"env_id": self.env_id, "states": self.vector.states}, "watched": []}

    def load_state(self, state: Mapping[str, Any]) -> Array:
        inner = state["inner"]
        if str(inner.get("env_id")) != self.env_id:
            raise UserError(f"a state of {inner.get('env_id')} cannot be restored into {self.env_id}")
        return self.vector.restore_states(inner["states"])

    def probe(self) -> str:
        return ""

    def close(self) -> None:
        self.vector.close()
