"""Orchard: a player who picks fruit among bees. The rules and tables; `env.Orchard` is the manual."""

import numpy as np

from envs.games.game import ROOF, SIDE, STEPS, TICKS, UNIT, Array, Game, Number, Sprite, draw, place, reflect

NUM_BEES = 3
DRAWN = ("player_x", "player_y", "safe", "fruits", "clock",
         *(f"bee{b}_{axis}" for b in range(NUM_BEES) for axis in "xy"))  # fmt: skip
OWN = (*(f"flight{b}_{axis}" for b in range(NUM_BEES) for axis in "xy"), "heading", "left")
PLAYER_X, PLAYER_Y, SAFE, FRUITS, CLOCK, HEADING, LEFT = (
    place(name, DRAWN, OWN) for name in ("player_x", "player_y", "safe", "fruits", "clock", "heading", "left")
)
BEES, FLIGHT = place("bee0_x", DRAWN, OWN), place("flight0_x", DRAWN, OWN)

TREES = 4  # in a row, and rows
NUM_FRUITS = TREES * (TREES - 1)
TREE_X = np.tile(10 + 20 * np.arange(TREES), TREES) * UNIT  # left and top edges of the fruits, row by row
TREE_Y = np.repeat(16 + 19 * np.arange(TREES), TREES) * UNIT
PLAYER, FRUIT, BEE = 5 * UNIT, 4 * UNIT, 4 * UNIT
WALK = 80  # a tick
SAFE_TICKS = 30  # after a sting, and at the start
TIME = 240  # steps until the clock has run down
LIGHTS, WHOLE = 12, 1024  # of the clock that is drawn; of the one in the view `state`
DIRECTIONS = np.array([(48, 0), (34, 34), (0, 48), (-34, 34), (-48, 0), (-34, -34), (0, -48), (34, -34)], np.int32)
WALKS = np.array([(0, 0), (0, -WALK), (0, WALK), (-WALK, 0), (WALK, 0)], np.int32)
TURN_ONE_IN = 16  # steps, on average, after which a bee turns


def begin(s: Array) -> None:
    s[:, PLAYER_X] = draw(s, SIDE * UNIT - PLAYER)
    s[:, PLAYER_Y] = ROOF + draw(s, SIDE * UNIT - PLAYER - ROOF)
    s[:, SAFE] = SAFE_TICKS
    s[:, FRUITS] = (1 << TREES * TREES) - 1
    for row in range(TREES):  # one tree of each bears nothing
        s[:, FRUITS] ^= 1 << (TREES * row + draw(s, TREES))
    for x in range(BEES, BEES + 2 * NUM_BEES, 2):
        s[:, x] = draw(s, SIDE * UNIT - BEE)
        s[:, x + 1] = ROOF + draw(s, SIDE * UNIT - BEE - ROOF)
        flight = FLIGHT + x - BEES
        s[:, flight : flight + 2] = DIRECTIONS[draw(s, len(DIRECTIONS))]
    s[:, HEADING] = 8
    s[:, CLOCK] = (1 << LIGHTS) - 1
    s[:, LEFT] = WHOLE


def meets(s: Array, left: Array, top: Array, size: int) -> Array:
    """Tells whether the player (n,) touches squares (n or 1, k)."""
    x, y = s[:, PLAYER_X, None], s[:, PLAYER_Y, None]
    return (x + PLAYER > left) & (x < left + size) & (y + PLAYER > top) & (y < top + size)


def tick(s: Array, walk: Array) -> Array:
    """Returns the reward (n,)."""
    s[:, PLAYER_X] = np.clip(s[:, PLAYER_X] + walk[:, 0], 0, SIDE * UNIT - PLAYER)
    s[:, PLAYER_Y] = np.clip(s[:, PLAYER_Y] + walk[:, 1], ROOF, SIDE * UNIT - PLAYER)
    bits = 1 << np.arange(TREES * TREES)
    picked = meets(s, TREE_X, TREE_Y, FRUIT) & (s[:, FRUITS, None] & bits != 0)
    s[:, FRUITS] ^= (picked * bits).sum(1).astype(np.int32)

    for x in range(BEES, BEES + 2 * NUM_BEES):
        s[:, x] += s[:, FLIGHT + x - BEES]
        reflect(s[:, x], s[:, FLIGHT + x - BEES], ROOF if (x - BEES) % 2 else 0, SIDE * UNIT - BEE)
    bees = s[:, BEES : BEES + 2 * NUM_BEES]
    stung = meets(s, bees[:, ::2], bees[:, 1::2], BEE).any(1) & (s[:, SAFE] == 0)
    s[:, SAFE] = np.where(stung, SAFE_TICKS, np.maximum(s[:, SAFE] - 1, 0))
    return picked.sum(1) - stung


def play(s: Array, action: Array, endless: bool) -> tuple[Array, Array]:
    s[:, HEADING] = np.where(action > 0, 1 << np.maximum(action - 1, 0), s[:, HEADING])
    for flight in range(FLIGHT, FLIGHT + 2 * NUM_BEES, 2):
        direction = draw(s, len(DIRECTIONS) * TURN_ONE_IN)
        turns = direction < len(DIRECTIONS)
        s[turns, flight : flight + 2] = DIRECTIONS[direction[turns]]
    reward = sum(tick(s, WALKS[action]) for _ in range(TICKS))
    steps = np.clip(s[:, STEPS], 0, TIME - 1) + 1
    s[:, LEFT] = WHOLE - WHOLE * steps // TIME
    s[:, CLOCK] = (1 << (LIGHTS - LIGHTS * steps // TIME)) - 1
    return np.asarray(reward), np.zeros(len(s), bool)


HALF = SIDE * UNIT // 2
NUMBERS = (
    *(Number(word, offset=HALF, scale=HALF) for word in (PLAYER_X, PLAYER_Y, *range(BEES, BEES + 2 * NUM_BEES))),
    *(Number(word, scale=48) for word in range(FLIGHT, FLIGHT + 2 * NUM_BEES)),
    Number(SAFE, scale=SAFE_TICKS),
    Number(LEFT, scale=WHOLE),
    *(Number(HEADING, shift=direction, mask=1) for direction in range(4)),
    *(Number(FRUITS, shift=tree, mask=1) for tree in range(TREES * TREES)),
)
SPRITES = (
    *(
        Sprite(x=(7 * light + 1) * UNIT, y=2 * UNIT, width=5 * UNIT, height=2 * UNIT, grey=80, word=CLOCK, shift=light,
               mask=1, channel=0)
        for light in range(LIGHTS)
    ),
    *(
        Sprite(x=int(x), y=int(y), width=FRUIT, height=FRUIT, grey=110, word=FRUITS, shift=tree, mask=1, channel=0)
        for tree, (x, y) in enumerate(zip(TREE_X, TREE_Y, strict=True))
    ),
    Sprite(x_word=PLAYER_X, y_word=PLAYER_Y, width=PLAYER, height=PLAYER, grey=255, channel=1),
    Sprite(x_word=PLAYER_X, y_word=PLAYER_Y, x=UNIT, y=UNIT, width=3 * UNIT, height=3 * UNIT, grey=60, word=SAFE),
    *(
        Sprite(x_word=x, y_word=x + 1, width=BEE, height=BEE, grey=180, channel=2, trail=3)
        for x in range(BEES, BEES + 2 * NUM_BEES, 2)
    ),
)  # fmt: skip
ORCHARD = Game(
    "Orchard", 1, DRAWN, OWN, ("stay", "up", "down", "left", "right"),
    {"up": 1, "down": 2, "left": 3, "right": 4}, TIME, NUMBERS, SPRITES, begin, play,
)  # fmt: skip
