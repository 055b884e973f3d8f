"""The games in NumPy: what `games.c` is held to, and what plays where there is no C compiler. n games, S words."""

import numpy as np

from envs.games.game import CELL, CELLS, FRAMES, SIDE, STEPS, UNIT, Array, Game, Number, Sprite


class Reference:
    """Plays n games side by side. `limit`: steps of an episode, 0 for any number. `endless`: only that ends one."""

    def __init__(self, game: Game, limit: int, endless: bool) -> None:
        self.game, self.limit, self.endless = game, limit, endless

    def begin(self, states: Array, mask: Array) -> None:
        """Begins new episodes in the rows (n, S) of `mask` (n,) bool."""
        rows = states[mask]
        if len(rows):
            rows[:, STEPS] = 0
            self.game.begin(rows)
            drawn = len(self.game.drawn)
            rows[:, drawn : FRAMES * drawn] = np.tile(rows[:, :drawn], FRAMES - 1)
            states[mask] = rows

    def step(self, states: Array, actions: Array, last: Array | None) -> tuple[Array, Array, Array]:
        """Plays actions (n,) in states (n, S). Returns rewards (n,) float64, terminated and truncated (n,) bool. Games
        that end are copied to their rows of `last` and begin again, unless there is none."""
        drawn = len(self.game.drawn)
        states[:, drawn : FRAMES * drawn] = states[:, : (FRAMES - 1) * drawn].copy()
        reward, terminated = self.game.play(states, actions, self.endless)
        states[:, STEPS] += 1
        truncated = (states[:, STEPS] >= self.limit) & (self.limit > 0)
        ended = terminated | truncated
        if last is not None:
            last[ended] = states[ended]
            self.begin(states, ended)
        return reward.astype(np.float64), terminated, truncated

    def observe(self, states: Array, view: str, out: Array) -> None:
        """Writes what is seen of states (n, S) into `out` (n, ...)."""
        if view == "state":
            out[...] = numbers(states, self.game.numbers)
            return
        out[...] = 0
        drawn = len(self.game.drawn)
        for sprite in self.game.sprites:
            if view == "planes":
                cover(states, sprite, sprite.channel, out)
                cover(states[:, drawn:], sprite, sprite.trail, out)
                continue
            for frame in range(FRAMES):  # the newest last
                paint(states[:, (FRAMES - 1 - frame) * drawn :], sprite, out[..., frame])


def numbers(states: Array, table: tuple[Number, ...]) -> Array:
    """Return the numbers, (n, K) float32."""
    word, shift, mask, offset, scale = np.array([list(vars(n).values()) for n in table], np.int32).T
    whole = (states[:, word] >> shift & mask) - offset
    return whole.astype(np.float32) / scale.astype(np.float32)


def place(states: Array, sprite: Sprite) -> tuple[Array, Array, Array]:
    """Return left and top edges (n,) int64 in units, and whether the sprite is shown (n,) bool."""
    left, top = np.full((2, len(states)), ((sprite.x,), (sprite.y,)), np.int64)
    if sprite.x_word >= 0:
        left += states[:, sprite.x_word]
    if sprite.y_word >= 0:
        top += states[:, sprite.y_word]
    on = np.ones(len(states), bool)
    if sprite.word >= 0:
        on = (states[:, sprite.word] >> sprite.shift & sprite.mask) != 0
    return left, top, on


def paint(states: Array, sprite: Sprite, picture: Array) -> None:
    """Paint the sprite into pictures (n, SIDE, SIDE)."""
    left, top, on = place(states, sprite)
    pixel = np.arange(SIDE)
    left, top = left[:, None] >> 6, top[:, None] >> 6
    wide = (pixel >= left) & (pixel < left + sprite.width // UNIT)
    high = (pixel >= top) & (pixel < top + sprite.height // UNIT)
    picture[on[:, None, None] & high[:, :, None] & wide[:, None, :]] = sprite.grey


def cover(states: Array, sprite: Sprite, channel: int, planes: Array) -> None:
    """Adds how much of each cell the sprite covers, of 255, to a channel of planes (n, CELLS, CELLS, CHANNELS). Sides
    that are shorter than a cell's count as so long."""
    if channel < 0:
        return
    left, top, on = place(states, sprite)
    edge = np.arange(CELLS) * CELL

    def overlap(start: Array, size: int) -> Array:
        length = max(size, CELL)
        start = start[:, None] - (length - size) // 2
        inside = np.minimum(start + length, edge + CELL) - np.maximum(start, edge)
        return np.maximum(inside, 0)  # (n, CELLS)

    area = overlap(top, sprite.height)[:, :, None] * overlap(left, sprite.width)[:, None, :] * on[:, None, None]
    planes[..., channel] = np.minimum(planes[..., channel] + 255 * area // CELL**2, 255)
