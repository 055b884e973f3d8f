"""One of ALE's games as Gymnasium's single environment, for what drives one: a person, or another library."""

from typing import Any

import gymnasium
import numpy as np

from rlhf_control.simulation.atari.pictures import Array
from rlhf_control.simulation.atari.vector import AtariVectorEnv, decoded

KEYS = {"UP": "up", "DOWN": "down", "LEFT": "left", "RIGHT": "right", "FIRE": "space"}


class AtariEnv(gymnasium.Env[Array, np.int64]):
    """Is what `AtariVectorEnv` is, alone and without autoreset. Every `reset` starts ALE's own random numbers anew,
    from those of this environment, so that an episode follows from its reset and its actions."""

    def __init__(self, env_id: str, render_mode: str | None = None, **options: Any) -> None:
        self._games = AtariVectorEnv(env_id, 1, num_processes=0, render_mode=render_mode, **options)
        self.render_mode = render_mode
        self.metadata = self._games.metadata
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        obs, _ = self._games.reset(seed=int(self.np_random.integers(2**63)))
        return obs[0], {}

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """`info` holds `score`, the points of the step, and `game_over`."""
        obs, reward, terminated, truncated, info = self._games.step(np.array([action]))
        seen = info["final_obs"][0] if "final_obs" in info else obs[0]
        facts = {"score": int(info["score"][0]), "game_over": bool(info["game_over"][0])}
        return seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), facts

    def render(self) -> Array | None:
        """Return the screen, (210, 160, 3) uint8, with the render mode "rgb_array"."""
        return None if self.render_mode is None else decoded(self._games.pngs()[0])

    def get_action_meanings(self) -> list[str]:
        """Name the actions, in their order."""
        return self._games.action_meanings()

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        """Return the action of the keys of a keyboard that are held together."""
        found = {}
        for i, name in enumerate(self.get_action_meanings()):
            found[tuple(key for word, key in KEYS.items() if word in name)] = i
        return found

    def close(self) -> None:
        self._games.close()
