"""The games as Gymnasium's single environments. The docstrings of the classes are their manuals."""

import difflib
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.games.bricks import BRICKS
from envs.games.compiled import Engine, make_engine
from envs.games.game import CELLS, CHANNELS, FRAMES, SIDE, VIEWS, Array, Game, generators, seeded
from envs.games.orchard import ORCHARD
from envs.games.picture import draw_game

FPS = 15  # steps a second at human speed


class GameEnv(gymnasium.Env[Array, np.int64]):
    """Has what the games have in common; see `Bricks` and `Orchard`.

    The state of a game is a vector of whole numbers: `clone_state` copies it, `restore_state` goes on from it, bit for
    bit, in this environment or in another one, and `draw_game` draws it. The generator and the steps of the episode are
    in it. But the time limit is Gymnasium's TimeLimit, which `gymnasium.make` puts around it and which counts for
    itself, from the last `reset`; `vector.GameVectorEnv` counts by its states.
    """

    game: ClassVar[Game]
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}  # type: ignore[misc]

    def __init__(
        self, obs: str = "state", render_mode: str | None = None, compiled: bool = True, endless: bool = False
    ) -> None:
        self.view, self.render_mode = checked_view(obs), checked_render_mode(render_mode)
        self.observation_space, self.action_space = spaces_of(self.game, obs)
        self._state = np.zeros((1, self.game.words), np.int32)
        self._engine: Engine = make_engine(self.game, 0, endless, compiled)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin a new episode. A seed, 0 to 2**64 - 1, starts the game's generator anew; without one it runs on."""
        first = self._np_random is None
        super().reset(seed=None if seed is None else checked_seed(seed))
        if seed is not None or first:
            seed = int(self.np_random.integers(2**63)) if seed is None else seed
            generators(self._state)[:] = seeded([seed])
        self._engine.begin(self._state, np.ones(1, bool))
        return self._get_obs(), {}

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        reward, terminated, truncated = self._engine.step(self._state, checked_actions(self.game, [action], 1), None)
        return self._get_obs(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Array | None:
        """Draw the game, (504, 504, 3) uint8, with the render mode "rgb_array"."""
        return None if self.render_mode is None else draw_game(self.game, self._state[0])

    def clone_state(self) -> Array:
        """Return all there is of the game, (S,) int32, to go on from with `restore_state`."""
        return self._state[0].copy()

    def restore_state(self, state: Array) -> Array:
        """Go on from a state (S,), int32 or whole numbers of another type, and return the observation there."""
        self._state[0] = checked_states(self.game, np.asarray(state)[None])[0]
        return self._get_obs()

    def get_action_meanings(self) -> list[str]:
        """Name the actions, in their order."""
        return list(self.game.actions)

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        """Return the action of each key of a keyboard, and that of none."""
        return {(): 0, **{(key,): action for key, action in self.game.keys.items()}}

    def _get_obs(self) -> Array:
        out = np.empty(self.observation_space.shape or (), self.observation_space.dtype)
        self._engine.observe(self._state, self.view, out[None])
        return out


class Bricks(GameEnv):
    """`rlhf/Bricks-v0`: break a wall of 18 bricks with a ball that must not be missed.

    The field is 84 x 84 pixels. The paddle (14 wide) moves along its lower edge by up to 7.5 pixels a step; the ball (3
    wide) falls and rises by 4.5 pixels a step and flies off the paddle the further to the side, the further from its
    middle it was met (0.5, 1.25 or 2 pixels sideways for 1.5 up). A brick that it hits is gone and turns it round. A
    step is three ticks of the rules; at human speed there are 15 a second.

    Actions, Discrete(3): 0 stay, 1 left, 2 right.

    Observations, by `obs`:
        "state" (default)  Box(26,) float32, about -1 to 1: the paddle's place from left to right; the ball's, from left
            to right and from top to bottom; its velocity to the right and down; a 1 for each of 3 lives and of 18
            bricks, row by row from the top.
        "pixels"  Box(84, 84, 4) uint8: the last four steps' pictures, grey on black, the newest last; after a reset all
            four are the first one.
        "planes"  Box(12, 12, 4) uint8: how much of each cell of 7 x 7 pixels, of 255, is covered by bricks; by the
            paddle, and lives in the top row; by the ball; by the ball one step ago.

    Reward: 1 for each brick. Solved: 16.2 an episode, 90 % of what can be had, on the mean over 20.

    Start: the paddle in the middle, all bricks, 3 lives; the ball half-way up, at a random place from left to right,
    falling to a random side. So it is after a ball was missed.

    End: `terminated` when the third ball is missed or the last brick is gone. `truncated` after 1000 steps.

    Options: obs; render_mode ("rgb_array" draws 504 x 504 pixels in colour); terminate_when_unhealthy (default True;
    False: lives and wall come back when they are gone, so that only the time limit ends an episode and its length tells
    nothing; named as in Gymnasium's MuJoCo tasks); compiled (False: NumPy instead of C, which gives the same bits);
    max_episode_steps, as everywhere.
    """

    game = BRICKS

    def __init__(
        self, obs: str = "state", render_mode: str | None = None, terminate_when_unhealthy: bool = True,
        compiled: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(obs, render_mode, compiled, not terminate_when_unhealthy)


class Orchard(GameEnv):
    """`rlhf/Orchard-v0`: pick 12 fruits among three bees. The score is easily had; how it is had is a matter of style.

    Of 16 trees in four rows, one in each row at random bears nothing. 240 steps are time for all fruits three times
    over: early or late, far from the bees or past their noses, row by row or zigzag. All of that gives the same score.

    The field is 84 x 84 pixels, of which the top 7 show the time that is left. The player (5 wide) moves by 3.75 pixels
    a step and picks what it touches (4 wide). Bees (4 wide) fly at up to 2.25 pixels a step, turn at random once in 16
    steps on average, and at the edges. A step is three ticks of the rules; at human speed there are 15 a second.

    Actions, Discrete(5): 0 stay, 1 up, 2 down, 3 left, 4 right.

    Observations, by `obs`:
        "state" (default)  Box(36,) float32, about -1 to 1: the player's place (to the right, down), that of each bee,
            and each bee's velocity; the share of the two seconds after a sting that is left, and of the time; a 1 for
            the way the player went last (up, down, left, right) and for each of 16 trees that bears a fruit, row by
            row.
        "pixels"  Box(84, 84, 4) uint8: the last four steps' pictures, grey on black, the newest last; after a reset all
            four are the first one.
        "planes"  Box(12, 12, 4) uint8: how much of each cell of 7 x 7 pixels, of 255, is covered by fruits, and the
            time that is left in the top row; by the player; by bees; by the bees one step ago.

    Reward: 1 for each fruit, -1 for a sting. After a sting, and at the start, no bee stings for 10 steps. Solved: 10.8
    an episode, 90 % of what can be had, on the mean over 20.

    Start: player and bees at random places.

    End: never `terminated`. `truncated` after 240 steps.

    Options: obs; render_mode ("rgb_array" draws 504 x 504 pixels in colour); compiled (False: NumPy instead of C, which
    gives the same bits); max_episode_steps, as everywhere (the clock shows 240 steps all the same).
    """

    game = ORCHARD

    def __init__(self, obs: str = "state", render_mode: str | None = None, compiled: bool = True) -> None:
        super().__init__(obs, render_mode, compiled)


# -- what is asked of arguments, here and in `vector`


def spaces_of(game: Game, view: str) -> tuple[Box, Discrete]:
    """Return the spaces of one game."""
    shape = {"state": (len(game.numbers),), "pixels": (SIDE, SIDE, FRAMES), "planes": (CELLS, CELLS, CHANNELS)}[view]
    box = Box(-2, 2, shape, np.float32) if view == "state" else Box(0, 255, shape, np.uint8)
    return box, Discrete(len(game.actions))


def checked_view(view: str) -> str:
    if view not in VIEWS:
        near = difflib.get_close_matches(str(view), VIEWS) or VIEWS
        raise ValueError(f"obs is {view!r}; there are {', '.join(VIEWS)}; did you mean {' or '.join(near)}?")
    return view


def checked_render_mode(mode: str | None) -> str | None:
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {mode!r}; the games draw themselves with 'rgb_array' alone")
    return mode


def checked_seed(seed: Any) -> int:
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"a seed is a whole number from 0 to 2**64 - 1, not {seed!r}")
    return int(seed)


def checked_actions(game: Game, actions: Any, n: int) -> Array:
    """Return actions (n,) int64."""
    given = np.asarray(actions)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ValueError(f"actions of {game.name} are ({n},) whole numbers, not {given.dtype} {given.shape}")
    wrong = (given < 0) | (given >= len(game.actions))
    if wrong.any():
        raise ValueError(f"actions of {game.name} are 0 to {len(game.actions) - 1}, not {given[wrong][0]}")
    return np.ascontiguousarray(given, np.int64)


def checked_states(game: Game, states: Array) -> Array:
    """Return states (n, S) int32."""
    if states.ndim != 2 or states.shape[1] != game.words or states.dtype.kind not in "iuf":
        given = f"{states.dtype} {states.shape[1:]}"
        raise ValueError(f"a state of {game.name} is ({game.words},) whole numbers, not {given}")
    with np.errstate(invalid="ignore"):  # NaN, which is found
        whole = states.astype(np.int32)
    if (whole != states).any():
        raise ValueError(f"a state of {game.name} is whole numbers of 32 bits; these are others")
    return whole
