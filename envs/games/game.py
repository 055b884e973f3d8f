"""What a game is: its words, its rules and the tables that say what is seen of it.

All rules are in whole numbers, so that NumPy and C agree to the bit on any processor. n games side by side are an array
(n, S) int32, a row each: the words that are drawn, the same as they were one, two and three steps ago, the game's own,
then the steps of the episode so far and the two halves of the game's own generator. So a row is all there is of a game:
what is seen of it, the last four pictures included, and what comes next under some actions, follow from it alone.

Lengths are in units of 1/64 pixel of the small picture. A step is three ticks of the rules.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
UNIT, SIDE, CELLS = 64, 84, 12  # units of a pixel; pixels and cells of a side
CELL = SIDE // CELLS * UNIT
FRAMES, CHANNELS, TICKS = 4, 4, 3
ROOF = 7 * UNIT  # above it: lives or time
GENERATOR = 2  # words
STEPS = -GENERATOR - 1  # the word that counts the steps of the episode
VIEWS = ("state", "pixels", "planes")


@dataclass(frozen=True)
class Number:
    """Describes one number of the view `state`: ((word >> shift & mask) - offset) / scale, float32."""

    word: int
    shift: int = 0
    mask: int = -1
    offset: int = 0
    scale: int = 1


@dataclass(frozen=True)
class Sprite:
    """Describes a rectangle that is painted where its words and its own place add up to, while a word's bits are not
    all 0. Lengths in units, whole pixels in size; a word of -1 is none."""

    x_word: int = -1
    y_word: int = -1
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0
    grey: int = 255
    word: int = -1  # on while (word >> shift & mask) is not 0
    shift: int = 0
    mask: int = -1
    channel: int = -1  # of the view `planes`
    trail: int = -1  # the channel in which it is where it was a step ago


@dataclass(frozen=True)
class Game:
    """Holds the rules of a game and its tables. The functions take rows (n, S) and change them."""

    name: str
    which: int  # in games.c
    drawn: tuple[str, ...]  # names of the words that are drawn
    own: tuple[str, ...]  # and of those that are not
    actions: tuple[str, ...]
    keys: dict[str, int]  # of a keyboard
    limit: int  # steps of an episode
    numbers: tuple[Number, ...]
    sprites: tuple[Sprite, ...]
    begin: Callable[[Array], None]  # a new episode, but for what all games share
    play: Callable[[Array, Array, bool], tuple[Array, Array]]  # actions, endless -> reward, terminated

    @property
    def words(self) -> int:
        """Returns S, the number of words in a row."""
        return FRAMES * len(self.drawn) + len(self.own) + 1 + GENERATOR

    def word(self, name: str) -> int:
        """Returns the place of a word in a row."""
        return place(name, self.drawn, self.own)


def place(name: str, drawn: tuple[str, ...], own: tuple[str, ...]) -> int:
    """Returns the place in a row of a word of a game with these words."""
    return drawn.index(name) if name in drawn else FRAMES * len(drawn) + own.index(name)


# -- the generator of each game: splitmix64 (Steele, Lea, Flood 2014)

GAMMA, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(words: Array) -> Array:
    """Returns the numbers (n,) uint64 that belong to generators at these words (n,) uint64."""
    z = (words ^ (words >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


def generators(rows: Array) -> Array:
    """Returns the words (n,) uint64 of the generators in rows (n, S), which are their memory."""
    return rows[:, -GENERATOR:].view(np.uint64)[:, 0]


def draw(rows: Array, below: int) -> Array:
    """Draws whole numbers (n,) int32 from 0 to `below` - 1, each from its row's generator."""
    words = generators(rows)
    words += GAMMA
    return ((mixed(words) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int32)


def seeded(seeds: list[int]) -> Array:
    """Returns the generators (n,) uint64 of seeds below 2**64: neighbours have nothing in common."""
    return mixed(np.array(seeds, np.uint64) + GAMMA)


def reflect(at: Array, velocity: Array, low: int, high: int) -> None:
    """Reflects what has left [low, high], its velocity too; both (n,) are changed."""
    below, above = at < low, at > high
    at[below] = 2 * low - at[below]
    at[above] = 2 * high - at[above]
    velocity[below | above] *= -1
