"""Pictures of games at human size, from their states alone. H = W = 504 pixels, six times the small picture."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from envs.games import bricks, orchard
from envs.games.game import ROOF, SIDE, UNIT, Array, Game

HUMAN = 504  # pixels
FINE = 2 * HUMAN / SIDE / UNIT  # drawn at twice the size and halved, which smooths the edges
Color = tuple[int, int, int]

NIGHT, STRIP, CHALK, BALL = (24, 28, 44), (12, 14, 24), (236, 240, 246), (255, 214, 64)
ROW_COLORS: tuple[Color, ...] = ((232, 106, 88), (236, 164, 76), (92, 178, 160))
MEADOW, EARTH, LEAVES, SHADE = (238, 232, 210), (206, 196, 164), (112, 152, 104), (88, 128, 84)
FRUIT, STALK, COAT, HAT, DIZZY = (214, 52, 48), (92, 64, 40), (44, 94, 178), (24, 44, 92), (170, 176, 190)
BEE, STRIPE, WING, SUN = (250, 202, 40), (36, 32, 30), (255, 255, 255), (244, 176, 52)


class Sketch:
    """Draws in units."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.draw = image, ImageDraw.Draw(image)

    def box(self, x: float, y: float, width: float, height: float, color: Color, corner: float = 0) -> None:
        self.draw.rounded_rectangle(_corners(x, y, width, height), corner * FINE, color)

    def oval(self, x: float, y: float, width: float, height: float, color: Color, edge: Color | None = None) -> None:
        self.draw.ellipse(_corners(x, y, width, height), color, edge, 3 if edge else 0)


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x * FINE, y * FINE, (x + width) * FINE - 1, (y + height) * FINE - 1


def draw_game(game: Game, state: Array) -> Array:
    """Draws the picture (H, W, 3) uint8 of a state (S,): the same one for the same state, byte for byte."""
    sketch = Sketch(_ground(game.name).copy())
    PAINTERS[game.name](sketch, state.astype(np.int64).tolist())
    return np.asarray(sketch.image.reduce(2))


@cache
def _ground(name: str) -> Image.Image:
    """What never changes."""
    image = Image.new("RGB", (2 * HUMAN, 2 * HUMAN), NIGHT if name == bricks.BRICKS.name else MEADOW)
    sketch = Sketch(image)
    sketch.box(0, 0, SIDE * UNIT, ROOF - UNIT, STRIP if name == bricks.BRICKS.name else EARTH)
    if name == orchard.ORCHARD.name:
        for x, y in zip(orchard.TREE_X.tolist(), orchard.TREE_Y.tolist(), strict=True):
            sketch.oval(x - 3 * UNIT, y - 3 * UNIT, 10 * UNIT, 10 * UNIT, LEAVES, SHADE)
    return image


def _paint_bricks(sketch: Sketch, s: list[int]) -> None:
    for life in range(3):
        if s[bricks.LIVES] >> life & 1:
            sketch.oval((SIDE - 7 - 8 * life) * UNIT, UNIT, 4 * UNIT, 4 * UNIT, BALL)  # clear of the badge of a clip
    for brick in range(bricks.ROWS * bricks.COLUMNS):
        if s[bricks.WALL] >> brick & 1:
            x, y = bricks.brick_place(brick)
            color = ROW_COLORS[brick // bricks.COLUMNS]
            sketch.box(x + UNIT / 2, y + UNIT / 2, bricks.BRICK - UNIT, bricks.ROW - UNIT, color, UNIT)
    sketch.box(s[bricks.PADDLE], bricks.FLOOR, bricks.WIDTH, 3 * UNIT, CHALK, 1.5 * UNIT)
    sketch.oval(s[bricks.BALL_X], s[bricks.BALL_Y], bricks.BALL, bricks.BALL, BALL)


def _paint_orchard(sketch: Sketch, s: list[int]) -> None:
    sketch.box(UNIT, 2 * UNIT, (SIDE - 2) * UNIT * s[orchard.LEFT] / orchard.WHOLE, 2 * UNIT, SUN)
    for tree, (x, y) in enumerate(zip(orchard.TREE_X.tolist(), orchard.TREE_Y.tolist(), strict=True)):
        if s[orchard.FRUITS] >> tree & 1:
            sketch.box(x + 1.7 * UNIT, y - 0.8 * UNIT, 0.6 * UNIT, 1.5 * UNIT, STALK)
            sketch.oval(x, y, orchard.FRUIT, orchard.FRUIT, FRUIT, STALK)
    x, y, size = s[orchard.PLAYER_X], s[orchard.PLAYER_Y], orchard.PLAYER
    sketch.oval(x, y, size, size, DIZZY if s[orchard.SAFE] else COAT, HAT)
    ahead_x, ahead_y = {1: (0, -1), 2: (0, 1), 4: (-1, 0), 8: (1, 0)}.get(
        s[orchard.HEADING], (0, 0)
    )  # an eye looks ahead
    sketch.oval(
        x + size * (0.3 + 0.25 * ahead_x), y + size * (0.3 + 0.25 * ahead_y), 0.4 * size, 0.4 * size, CHALK, HAT
    )
    for bee in range(orchard.BEES, orchard.BEES + 2 * orchard.NUM_BEES, 2):
        _paint_bee(sketch, s[bee], s[bee + 1])


def _paint_bee(sketch: Sketch, x: int, y: int) -> None:
    size = orchard.BEE
    for side in (0.05, 0.5):
        sketch.oval(x + side * size, y - 0.3 * size, 0.45 * size, 0.7 * size, WING, STRIPE)
    sketch.oval(x, y + 0.15 * size, size, 0.7 * size, BEE, STRIPE)
    for stripe in (0.3, 0.55):
        sketch.box(x + stripe * size, y + 0.2 * size, 0.14 * size, 0.6 * size, STRIPE)


PAINTERS: dict[str, Callable[[Sketch, list[int]], None]] = {
    bricks.BRICKS.name: _paint_bricks,
    orchard.ORCHARD.name: _paint_orchard,
}
