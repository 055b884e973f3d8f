"""ALE's games side by side, as a Gymnasium vector environment. The manual of our ALE/*-v5 environments."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from PIL import Image

from rlhf_control.compute.threads import available_cores
from rlhf_control.simulation.atari.game import FIRE, GOES_ON, LIFE_LOST, TERMINATED, TRUNCATED
from rlhf_control.simulation.atari.games import Games, GamesElsewhere
from rlhf_control.simulation.atari.ids import rom_of
from rlhf_control.simulation.atari.pictures import Array, Stacker
from rlhf_control.simulation.atari.preprocessing import hidden, preprocessing


class AtariVectorEnv(VectorEnv[Array, Array, Array]):
    """Steps n games of one ROM. Preprocessing is that of `preprocessing.Preprocessing`, whose fields are the options.

    Observations are Box(84, 84, 4) uint8, grey, the newest picture last (zeros before a game's first one); actions are
    Discrete. For the same seeds and actions the same bits, for any number of games and processes: the i-th of n games
    is what a single one with its seed is, its later episodes included. `clone_states` and `restore_states` go on from
    any step, bit for bit, in this one or another.

    Why not ALE's own vector environment: it has no state of a game to come back to, no RAM and no screen, it clips the
    score or does not, and a lost life begins a new game (ale-py 0.12.1). With one core, this one is as fast. What both
    can do, they do to the same bits.

    Autoreset is SAME_STEP: a game that ends begins again in that step; its last observation is `info["final_obs"][i]`
    (an object array, None where `info["_final_obs"]` is False). A lost life that ends an episode (`episodic_life`) is
    reported likewise, but the game goes on. Further infos, at every step: `score` (n,), the points of the step, which
    are the reward unless that is clipped; `game_over` (n,) bool, whose game ended.

    Freeway's clock, which ends a game with ALE's `terminated`, and which the screen does not show, is a time limit
    here: `truncated`.
    """

    def __init__(
        self, env_id: str, num_envs: int = 1, *, num_processes: int | None = None, render_mode: str | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        """Make them; call `reset` before the first step.

        Args:
            env_id: ALE/Pong-v5 and the like.
            num_envs: n, the number of games.
            num_processes: that share the games; 0: this one plays them (default: as many as there are cores, or 0 where
                there is one of either).
            render_mode: "rgb_array", for `render` to give screens.
            options: see `Preprocessing`.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; ALE's games are drawn with 'rgb_array' alone")
        self.env_id, self.rom, self.options = env_id, rom_of(env_id), preprocessing(options)
        hidden(self.options.hide_score, self.rom)  # or it says what is wrong
        cores = len(available_cores())
        most = (cores if min(cores, num_envs) > 1 else 0) if num_processes is None else num_processes
        edges = np.linspace(0, num_envs, max(1, min(most, num_envs)) + 1).astype(int).tolist()
        self._parts = [slice(a, b) for a, b in pairwise(edges)]
        kind = GamesElsewhere if most else Games
        self._games: list[Games | GamesElsewhere] = [
            kind(self.rom, part.stop - part.start, self.options) for part in self._parts
        ]
        o = self.options
        self.num_envs, self.render_mode, self.autoreset_mode = num_envs, render_mode, AutoresetMode.SAME_STEP
        self.metadata = {
            "render_modes": ["rgb_array"], "render_fps": 1 / o.step_seconds, "autoreset_mode": self.autoreset_mode,
        }  # fmt: skip
        self.single_observation_space = Box(0, 255, (o.img_height, o.img_width, o.stack_num), np.uint8)
        self.single_action_space = Discrete(len(self._games[0].actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._push = Stacker()
        self._fires = o.use_fire_reset and FIRE in self._games[0].actions
        self._stacks = np.zeros((num_envs, *(self.single_observation_space.shape or ())), np.uint8)
        self.facts = np.zeros((num_envs, 0))
        self._started = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin games, in all or in those of `options["reset_mask"]`, (n,) bool. An int `seed` seeds game i with `seed
        + i`, a sequence has one for each; None lets the random numbers run on. Seeds may be of any size."""
        mask = np.ones(self.num_envs, bool) if not options else np.asarray(options.get("reset_mask", True))
        mask = np.broadcast_to(mask, self.num_envs)
        if mask.dtype != bool:
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool")
        if not self._started and not mask.all():
            raise gymnasium.error.ResetNeeded("the first reset() must be one of all games")
        seeds = self._seeds(seed)
        facts = []
        for games, part in zip(self._games, self._parts, strict=True):
            chosen = [i for i in range(part.start, part.stop) if mask[i]]
            if not chosen:
                facts.append(self.facts[part])
                continue
            first, found = games.reset({i - part.start: seeds[i] for i in chosen})
            facts.append(found)
            self._stacks[chosen] = 0
            self._stacks[chosen, ..., -1] = first
        self.facts, self._started = np.concatenate(facts), True
        return self._stacks.copy(), {}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None and not self._started:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None if s is None else int(s) for s in (seed if seed is not None else [None] * self.num_envs)]
        if len(seeds) != self.num_envs or any(s is not None and s < 0 for s in seeds):
            raise ValueError(f"seeds are {self.num_envs} whole numbers from 0, not {seed!r}")
        return seeds

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Play actions (n,). Returns observations (n, 84, 84, 4), rewards (n,) float64, terminated and truncated (n,)
        bool, info."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions)
        n = len(self._games[0].actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu" or not (actions < n).all():
            raise ValueError(
                f"actions of {self.env_id} are ({self.num_envs},) whole numbers below {n}, not {actions!r}"
            )
        if (actions < 0).any():
            raise ValueError(f"actions of {self.env_id} are 0 to {n - 1}, not {actions.min()}")
        for games, part in zip(self._games, self._parts, strict=True):
            games.send(actions[part])
        shots = [games.receive() for games in self._games]
        pictures, scores, ends, firsts, self.facts = (
            np.concatenate([getattr(shot, name) for shot in shots])
            for name in ("pictures", "scores", "ends", "firsts", "facts")
        )
        self._stacks = self._push(self._stacks, pictures)
        over = ends > LIFE_LOST
        ended = ends != GOES_ON
        if self.options.endless:
            ended = ended & (ends == TRUNCATED)
        info: dict[str, Any] = {"score": scores, "game_over": over}
        if ended.any():
            info["final_obs"], info["_final_obs"] = np.full(self.num_envs, None), ended
            for i in np.flatnonzero(ended):
                info["final_obs"][i] = self._stacks[i].copy()
        for i in np.flatnonzero(over):
            self._stacks[i] = 0
            self._stacks[i, ..., -1] = firsts[i]
        fired = np.flatnonzero(ends == LIFE_LOST)
        if len(fired) and self._fires:  # the game went on by a step
            self._stacks[fired] = self._push(self._stacks[fired], firsts[fired])
        reward = (np.sign(scores) if self.options.reward_clipping else scores).astype(np.float64)
        terminated = ended & ((ends == TERMINATED) | (ends == LIFE_LOST))
        return self._stacks.copy(), reward, terminated, ended & (ends == TRUNCATED), info

    def action_meanings(self) -> list[str]:
        """Name the actions, in their order."""
        from ale_py import Action

        return [Action(number).name for number in self._games[0].actions]

    def pngs(self) -> list[bytes]:
        """Return the screen of each game, in colour and full size, as a PNG; stale between `restore_states` and the
        next step."""
        return [png for games in self._games for png in games.pngs()]

    def render(self) -> tuple[Array, ...] | None:
        """Return the screen of each game, (210, 160, 3) uint8, with the render mode "rgb_array"."""
        return None if self.render_mode is None else tuple(decoded(png) for png in self.pngs())

    def clone_states(self) -> dict[str, Any]:
        """Return all there is of the games, as arrays and plain values."""
        states = [state for games in self._games for state in games.states()]
        return {"games": {str(i): state for i, state in enumerate(states)}, "stacks": self._stacks.copy()}

    def restore_states(self, state: Mapping[str, Any]) -> Array:
        """Go on from `clone_states` and return the observations there. Raises ValueError for those of another game, or
        of another number of them."""
        games = [state["games"][str(i)] for i in range(len(state["games"]))]
        if len(games) != self.num_envs or np.shape(state["stacks"]) != self._stacks.shape:
            raise ValueError(f"states of {len(games)} games, {np.shape(state['stacks'])}, do not fit {self.num_envs}")
        facts = [own.load_states(games[part]) for own, part in zip(self._games, self._parts, strict=True)]
        self.facts, self._started = np.concatenate(facts), True
        self._stacks = np.array(state["stacks"], np.uint8)
        return self._stacks.copy()

    def close_extras(self, **_: Any) -> None:
        """End the processes."""
        for games in self._games:
            games.close()


def decoded(png: bytes) -> Array:
    """Return the picture (H, W, 3) of a PNG."""
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))
