"""The games, many side by side, as Gymnasium's vector environments."""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.games.compiled import make_engine
from envs.games.env import (
    FPS,
    Bricks,
    Orchard,
    checked_actions,
    checked_render_mode,
    checked_seed,
    checked_states,
    checked_view,
    spaces_of,
)
from envs.games.game import Array, Game, generators, seeded
from envs.games.picture import draw_game

SAME_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class GameVectorEnv(VectorEnv[Array, Array, Array]):
    """Steps n games side by side; observations, actions and rewards are those of `env.Bricks` and `env.Orchard`.

    For the same seeds and actions, the same bits for any number of games and threads: the i-th of n games is what a
    single one with its seed is, its later episodes included.

    Autoreset, in `metadata["autoreset_mode"]`: SAME_STEP (default), where a game that ends begins again in that step;
    its last observation is `info["final_obs"][i]` (an object array, None where `info["_final_obs"]` is False). Or
    DISABLED: what ended goes on as it is until `reset` with `options={"reset_mask": mask}`. There are no other infos:
    whatever else there is to know is in `states`.
    """

    game: ClassVar[Game]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        obs: str = "state",
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = SAME_STEP,
        num_threads: int = 1,
        render_mode: str | None = None,
        compiled: bool = True,
        endless: bool = False,
    ) -> None:
        """Make them; call `reset` before the first step.

        Args:
            num_envs: n, the number of games.
            obs: "state", "pixels" or "planes".
            max_episode_steps: after how many steps an episode is truncated, -1 for never (default: the game's).
            autoreset_mode: SAME_STEP or DISABLED.
            num_threads: that share the games. More than one pays for hundreds of games, or dozens with pictures.
            render_mode: "rgb_array" to have `render` give a picture of each.
            compiled: False: NumPy instead of C.
            endless: only the time limit ends an episode.
        """
        if num_envs < 1 or num_threads < 1:
            raise ValueError(f"num_envs is {num_envs} and num_threads {num_threads}; both must be at least 1")
        limit = self.game.limit if max_episode_steps is None else max_episode_steps
        if not (limit == -1 or 1 <= limit <= 10**9):
            raise ValueError(f"max_episode_steps must be at least 1, or -1 for no limit, not {limit}")
        self.view, self.render_mode = checked_view(obs), checked_render_mode(render_mode)
        mode = AutoresetMode(autoreset_mode)
        if mode not in (SAME_STEP, DISABLED):
            raise ValueError("autoreset_mode NEXT_STEP is not supported; choose SAME_STEP or DISABLED")
        self.num_envs, self.autoreset_mode = num_envs, mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FPS, "autoreset_mode": mode}
        self.spec = copy.deepcopy(gymnasium.registry.get(f"rlhf/{self.game.name}-v0"))
        self.single_observation_space, self.single_action_space = spaces_of(self.game, obs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._engine = make_engine(self.game, max(limit, 0), endless, compiled)
        self._states = np.zeros((num_envs, self.game.words), np.int32)
        self._last = np.zeros_like(self._states)  # of what ended in a step
        self._started = False
        edges = np.linspace(0, num_envs, min(num_threads, num_envs) + 1).astype(int).tolist()
        self._parts = [slice(a, b) for a, b in pairwise(edges)]
        self._pool = ThreadPoolExecutor(len(self._parts)) if len(self._parts) > 1 else None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin new episodes in all games, or in those of `options["reset_mask"]`, (n,) bool.

        An int `seed` seeds game i with `seed + i`, a sequence has one seed for each, and None lets the generators
        run on.
        """
        seeds, mask = self._seeds(seed), self._reset_mask(options)
        if not self._started:
            if not mask.all():
                raise gymnasium.error.ResetNeeded("the first reset() must be one of all games")
            generators(self._states)[:] = seeded(np.random.default_rng().integers(2**63, size=self.num_envs).tolist())
        for i in np.flatnonzero(mask).tolist():
            if seeds[i] is not None:
                generators(self._states[i : i + 1])[:] = seeded([checked_seed(seeds[i])])
        self._engine.begin(self._states, mask)
        self._started = True
        return self._seen(self._states), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Play actions (n,). Returns observations (n, ...), rewards (n,) float64, terminated and truncated (n,) bool,
        info."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = checked_actions(self.game, actions, self.num_envs)
        last = self._last if self.autoreset_mode == SAME_STEP else None
        out = self._room(self.num_envs)

        def play(part: slice) -> tuple[Array, Array, Array]:
            flags = self._engine.step(self._states[part], actions[part], None if last is None else last[part])
            self._engine.observe(self._states[part], self.view, out[part])
            return flags

        played = [play(self._parts[0])] if self._pool is None else list(self._pool.map(play, self._parts))
        reward, terminated, truncated = (np.concatenate(parts) for parts in zip(*played, strict=True))
        ended = terminated | truncated
        info: dict[str, Any] = {}
        if last is not None and ended.any():
            final = np.full(self.num_envs, None, object)
            for i, seen in zip(np.flatnonzero(ended), self._seen(last[ended]), strict=True):
                final[i] = seen
            info = {"final_obs": final, "_final_obs": ended}
        return out, reward, terminated, truncated, info

    def render(self) -> tuple[Array, ...] | None:
        """Draw each game, (504, 504, 3) uint8, with the render mode "rgb_array"."""
        return None if self.render_mode is None else tuple(draw_game(self.game, state) for state in self._states)

    @property
    def states(self) -> Array:
        """Return a copy of all there is of each game, to be cloned and restored: (n, S) int32."""
        return self._states.copy()

    def restore_states(self, states: Array, mask: Array | None = None) -> Array:
        """Go on from states (n, S), in all games or in those of `mask` (n,) bool, and return all observations. They may
        be of any games of this kind, single ones' `clone_state` too."""
        given = checked_states(self.game, np.asarray(states))
        if len(given) != self.num_envs:
            raise ValueError(f"{len(given)} states for {self.num_envs} games")
        chosen = self._reset_mask(None if mask is None else {"reset_mask": mask})
        self._states[chosen] = given[chosen]
        self._started = True
        return self._seen(self._states)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _seen(self, states: Array) -> Array:
        out = self._room(len(states))
        self._engine.observe(states, self.view, out)
        return out

    def _room(self, n: int) -> Array:
        space = self.single_observation_space
        return np.empty((n, *(space.shape or ())), space.dtype)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [checked_seed(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} games")
        return list(seed)

    def _reset_mask(self, options: dict[str, Any] | None) -> Array:
        if options is None or "reset_mask" not in options:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(options["reset_mask"])
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool with a True, not {mask!r}")
        return np.ascontiguousarray(mask)


class BricksVectorEnv(GameVectorEnv):
    """`rlhf/Bricks-v0`, many at a time; `env.Bricks` says what it is."""

    game = Bricks.game

    def __init__(self, num_envs: int = 1, *, terminate_when_unhealthy: bool = True, **options: Any) -> None:
        super().__init__(num_envs, endless=not terminate_when_unhealthy, **options)


class OrchardVectorEnv(GameVectorEnv):
    """`rlhf/Orchard-v0`, many at a time; `env.Orchard` says what it is."""

    game = Orchard.game

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        super().__init__(num_envs, **options)
