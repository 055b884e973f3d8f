"""Dialogues, all of them stepped together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs import DIALOGUE, DialogueVectorEnv
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.simulation.backends.protocol import StepResult
from rlhf_control.simulation.pictures import encode


class DialogueBackend:
    """Satisfies `protocol.Backend`."""

    draws = False

    def __init__(self, env_id: str, num_envs: int, env: Mapping[str, Any], first: int = 0) -> None:
        if env_id != DIALOGUE:
            raise UserError(f"{env_id} is no dialogue of ours; use --backend auto")
        self.vector = DialogueVectorEnv(num_envs, **env)
        self.step_seconds = 1 / self.vector.metadata["render_fps"]

    def reset(self, seed: int | None = None) -> Array:
        return self.vector.reset(seed=seed)[0]

    def step(self, action: Array) -> StepResult:
        obs, reward, terminated, truncated, info = self.vector.step(action)
        return StepResult(obs, reward, terminated, truncated, info.get("final_obs"))

    def states(self) -> Array:
        """Reads where the replies begin (N, 1), which is all that is to be known beside the context."""
        return self.vector.rules.begins[:, None].astype(np.float64)

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        return True

    def picture(self, i: int) -> Array:
        raise UserError("a dialogue is text, and `rendering.text` draws it")

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
