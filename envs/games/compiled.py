"""The games in C: `games.c`, called on rows of `game`. n games, S words."""

import ctypes
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from envs.games.game import Array, Game, Number, Sprite
from envs.games.reference import Reference
from rlhf_control.compute.compiler import load

SOURCE = Path(__file__).with_name("games.c")
INT, POINTER = ctypes.c_int64, ctypes.c_void_p
ARGUMENTS = {
    "games_begin": [POINTER, INT, POINTER, POINTER],
    "games_step": [POINTER, INT, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER],
    "games_numbers": [INT, INT, POINTER, INT, POINTER, POINTER],
    "games_pixels": [INT, INT, POINTER, INT, INT, POINTER, POINTER],
    "games_planes": [INT, INT, POINTER, INT, INT, POINTER, POINTER],
}


class Compiled:
    """Does the same as `Reference`, outside Python's lock. Rows must be contiguous. Actions are not checked."""

    def __init__(self, game: Game, limit: int, endless: bool, library: Any) -> None:
        self.game = game
        self._given = np.array([game.which, game.words, len(game.drawn), limit, endless], np.int64)  # `Game` in C
        self._call: dict[str, Any] = {}
        for name, types in ARGUMENTS.items():
            self._call[name] = getattr(library, name)
            self._call[name].argtypes, self._call[name].restype = types, None
        self._numbers, self._sprites = table(game.numbers), table(game.sprites)

    def begin(self, states: Array, mask: Array) -> None:
        self._call["games_begin"](self._given.ctypes.data, len(states), states.ctypes.data, mask.ctypes.data)

    def step(self, states: Array, actions: Array, last: Array | None) -> tuple[Array, Array, Array]:
        n = len(states)
        reward, terminated, truncated = np.empty(n), np.empty(n, bool), np.empty(n, bool)
        self._call["games_step"](
            self._given.ctypes.data, n, states.ctypes.data, actions.ctypes.data, reward.ctypes.data,
            terminated.ctypes.data, truncated.ctypes.data, None if last is None else last.ctypes.data,
        )  # fmt: skip
        return reward, terminated, truncated

    def observe(self, states: Array, view: str, out: Array) -> None:
        n, words = states.shape
        given: tuple[Any, ...] = (n, words, states.ctypes.data)
        if view == "state":
            numbers = self._numbers
            self._call["games_numbers"](*given, len(numbers), numbers.ctypes.data, out.ctypes.data)
        else:
            sprites = self._sprites
            call = self._call[f"games_{view}"]
            call(*given, len(self.game.drawn), len(sprites), sprites.ctypes.data, out.ctypes.data)


Engine = Reference | Compiled


def table(rows: tuple[Number, ...] | tuple[Sprite, ...]) -> Array:
    """Returns the table (K, fields) int32, as the structs of games.c lie in memory."""
    return np.array([[getattr(row, f.name) for f in fields(row)] for row in rows], np.int32)


def make_engine(game: Game, limit: int, endless: bool, compiled: bool = True) -> Engine:
    """Returns what plays the game: C, or the reference where there is no compiler or it is asked for."""
    library = load(SOURCE, work="games") if compiled else None
    return Reference(game, limit, endless) if library is None else Compiled(game, limit, endless, library)
