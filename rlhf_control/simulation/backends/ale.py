"""Atari games, each brought back from its own state, drawn by ALE."""

from collections.abc import Mapping
from typing import Any

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.atari.vector import AtariVectorEnv, decoded
from rlhf_control.simulation.backends.protocol import StepResult
from rlhf_control.simulation.foreign import close_with_the_work


class ALEBackend:
    """Steps ALE's games. Satisfies `protocol.Backend`."""

    draws = True

    def __init__(self, env_id: str, num_envs: int, env: Mapping[str, Any], first: int = 0) -> None:
        if not is_atari(env_id):
            raise UserError(f"{env_id} is none of ALE's games; use --backend auto")
        self.env_id = env_id
        self.vector = AtariVectorEnv(env_id, num_envs, **env)
        self.step_seconds = self.vector.options.step_seconds
        self._pngs: list[bytes] = []  # of the games as they are now, once they were asked for
        close_with_the_work(self.close)

    def reset(self, seed: int | None = None) -> Array:
        self._pngs = []
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        self._pngs = []
        obs, reward, terminated, truncated, info = self.vector.step(action)
        return StepResult(obs, info["score"], terminated, truncated, info.get("final_obs"), reward, info["game_over"])

    def states(self) -> Array:
        """Reads the RAM and `game.FACTS` of each game: what oracles read. Clips are drawn from recorded pictures."""
        return self.vector.facts

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        return False

    def picture(self, i: int) -> Array:
        return decoded(self.png(i))

    def png(self, i: int) -> bytes:
        if not self._pngs:
            self._pngs = self.vector.pngs()
        return self._pngs[i]

    def state(self) -> dict[str, Any]:
        return {"inner": {"env_id": self.env_id, **self.vector.clone_states()}, "watched": []}

    def load_state(self, state: Mapping[str, Any]) -> Array:
        if "stacks" not in state["inner"]:
            raise UserError("its state is that of another backend")
        try:
            return self.vector.restore_states(state["inner"])
        except ValueError as error:
            raise UserError(str(error)) from error

    def probe(self) -> str:
        return ""

    def close(self) -> None:
        self.vector.close()
