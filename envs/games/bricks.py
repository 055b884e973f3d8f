"""Bricks: a paddle, a ball and a wall of 18 bricks. The rules and tables; `env.Bricks` is the manual."""

import numpy as np

from envs.games.game import ROOF, SIDE, TICKS, UNIT, Array, Game, Number, Sprite, draw, place, reflect

DRAWN = ("paddle", "ball_x", "ball_y", "wall", "lives")  # of wall and lives, one bit each
OWN = ("velocity_x", "velocity_y")
PADDLE, BALL_X, BALL_Y, WALL, LIVES, VX, VY = (place(name, DRAWN, OWN) for name in DRAWN + OWN)

ROWS, COLUMNS = 3, 6
BRICK, ROW = 14 * UNIT, 7 * UNIT
TOP = 2  # rows above the wall
ALL_BRICKS, ALL_LIVES = (1 << ROWS * COLUMNS) - 1, 0b111
BALL, WIDTH, FLOOR = 3 * UNIT, 14 * UNIT, 77 * UNIT  # ball's side, paddle's width and upper edge
SPEED, PUSH = 96, 160  # a tick: of the ball downwards, of the paddle
ANGLES = np.array([-128, -80, -32, 32, 80, 128], np.int32)  # the ball's to the right, by where the paddle meets it
SERVES = np.array([-80, -32, 32, 80], np.int32)


def serve(s: Array) -> None:
    s[:, BALL_X] = 10 * UNIT + draw(s, 61 * UNIT)
    s[:, BALL_Y] = 42 * UNIT
    s[:, VX] = SERVES[draw(s, len(SERVES))]
    s[:, VY] = SPEED


def begin(s: Array) -> None:
    s[:, PADDLE] = (SIDE * UNIT - WIDTH) // 2
    s[:, WALL] = ALL_BRICKS
    s[:, LIVES] = ALL_LIVES
    serve(s)


def tick(s: Array, push: Array) -> Array:
    """Returns how many bricks (n,) were hit."""
    s[:, PADDLE] = np.clip(s[:, PADDLE] + push, 0, SIDE * UNIT - WIDTH)
    x, y = s[:, BALL_X] + s[:, VX], s[:, BALL_Y] + s[:, VY]
    reflect(x, s[:, VX], 0, SIDE * UNIT - BALL)
    reflect(y, s[:, VY], ROOF, 2 * SIDE * UNIT)  # it leaves below

    row, column = (y + BALL // 2) // ROW, (x + BALL // 2) // BRICK
    brick = 1 << np.clip((row - TOP) * COLUMNS + column, 0, ROWS * COLUMNS - 1)
    hit = (row >= TOP) & (row < TOP + ROWS) & (s[:, WALL] & brick != 0)
    s[:, WALL] ^= np.where(hit, brick, 0).astype(np.int32)
    from_above_or_below = (s[:, BALL_Y] + BALL // 2) // ROW != row
    s[hit & from_above_or_below, VY] *= -1
    s[hit & ~from_above_or_below, VX] *= -1
    x, y = np.where(hit, s[:, BALL_X], x), np.where(hit, s[:, BALL_Y], y)

    reach = x + BALL - s[:, PADDLE]  # 0 where the ball's right edge is at the paddle's left one
    met = (s[:, VY] > 0) & (y + BALL >= FLOOR) & (y < FLOOR + BALL) & (reach > 0) & (reach < WIDTH + BALL)
    y[met] = FLOOR - BALL
    s[met, VX] = ANGLES[reach[met] * 6 // (WIDTH + BALL)]
    s[met, VY] = -SPEED

    s[:, BALL_X], s[:, BALL_Y] = x, y
    missed = y >= SIDE * UNIT
    s[missed, LIVES] >>= 1
    rows = s[missed]
    serve(rows)
    s[missed] = rows
    return hit


def play(s: Array, action: Array, endless: bool) -> tuple[Array, Array]:
    push = np.array([0, -PUSH, PUSH], np.int32)[action]
    reward = sum(tick(s, push).astype(np.int32) for _ in range(TICKS))
    if endless:
        s[s[:, LIVES] == 0, LIVES] = ALL_LIVES
        s[s[:, WALL] == 0, WALL] = ALL_BRICKS
    return np.asarray(reward), (s[:, LIVES] == 0) | (s[:, WALL] == 0)


def brick_place(brick: int) -> tuple[int, int]:
    """Returns the left and top edge, in units."""
    return brick % COLUMNS * BRICK, (TOP + brick // COLUMNS) * ROW


MIDDLE = (SIDE * UNIT - BALL) // 2
NUMBERS = (
    Number(PADDLE, offset=(SIDE * UNIT - WIDTH) // 2, scale=(SIDE * UNIT - WIDTH) // 2),
    Number(BALL_X, offset=MIDDLE, scale=MIDDLE),
    Number(BALL_Y, offset=SIDE * UNIT // 2, scale=SIDE * UNIT // 2),
    Number(VX, scale=128),
    Number(VY, scale=SPEED),
    *(Number(LIVES, shift=life, mask=1) for life in range(3)),
    *(Number(WALL, shift=brick, mask=1) for brick in range(ROWS * COLUMNS)),
)
SPRITES = (
    *(
        Sprite(x=(3 + 8 * life) * UNIT, y=UNIT, width=5 * UNIT, height=4 * UNIT, grey=200, word=LIVES, shift=life,
               mask=1, channel=1)
        for life in range(3)
    ),
    *(
        Sprite(x=left, y=top, width=BRICK - UNIT, height=ROW - UNIT, grey=100 + 40 * (brick // COLUMNS), word=WALL,
               shift=brick, mask=1, channel=0)
        for brick in range(ROWS * COLUMNS) for left, top in [brick_place(brick)]
    ),
    Sprite(x_word=PADDLE, y=FLOOR, width=WIDTH, height=3 * UNIT, grey=200, channel=1),
    Sprite(x_word=BALL_X, y_word=BALL_Y, width=BALL, height=BALL, grey=255, channel=2, trail=3),
)  # fmt: skip
BRICKS = Game(
    "Bricks", 0, DRAWN, OWN, ("stay", "left", "right"), {"left": 1, "right": 2}, 1000, NUMBERS, SPRITES, begin,
    play,
)  # fmt: skip
