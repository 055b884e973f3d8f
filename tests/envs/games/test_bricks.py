"""The rules of Bricks, worked by hand. A row is put into a situation, then ticks."""

import numpy as np

from envs.games.bricks import (
    ALL_BRICKS,
    BALL,
    BALL_X,
    BALL_Y,
    BRICKS,
    FLOOR,
    LIVES,
    PADDLE,
    SPEED,
    VX,
    VY,
    WALL,
    begin,
    brick_place,
    play,
    tick,
)
from envs.games.game import ROOF, SIDE, UNIT


def row(**words: int) -> np.ndarray:
    s = np.zeros((1, BRICKS.words), np.int32)
    begin(s)
    for name, value in words.items():
        s[0, BRICKS.word(name)] = value
    return s


def test_a_brick_that_is_hit_is_gone_and_turns_the_ball_round() -> None:
    x, y = brick_place(13)  # the lowest row's second
    s = row(ball_x=x + 5 * UNIT, ball_y=y + 7 * UNIT - BALL // 2, velocity_x=0, velocity_y=-SPEED)
    before = s[0, BALL_Y]
    assert tick(s, np.zeros(1, np.int32)) == 1
    assert s[0, WALL] == ALL_BRICKS ^ 1 << 13 and s[0, VY] == SPEED and s[0, BALL_Y] == before
    assert tick(s, np.zeros(1, np.int32)) == 0 and s[0, BALL_Y] == before + SPEED


def test_a_brick_that_is_hit_from_its_side_turns_the_ball_sideways() -> None:
    x, y = brick_place(13)
    s = row(ball_x=x - BALL // 2 - 10, ball_y=y + 2 * UNIT, velocity_x=80, velocity_y=-32, wall=1 << 13)
    assert tick(s, np.zeros(1, np.int32)) == 1 and s[0, VX] == -80 and s[0, VY] == -32 and s[0, WALL] == 0


def test_the_paddle_sends_the_ball_where_it_was_met() -> None:
    for offset, velocity in ((-BALL + 1, -128), (4 * UNIT, -32), (9 * UNIT, 80), (14 * UNIT - 1, 128)):
        s = row(paddle=2000, ball_x=2000 + offset, ball_y=FLOOR - BALL - 1, velocity_x=0, velocity_y=SPEED)
        tick(s, np.zeros(1, np.int32))
        assert (s[0, VX], s[0, VY], s[0, BALL_Y]) == (velocity, -SPEED, FLOOR - BALL)


def test_walls_reflect_and_the_paddle_stays_within() -> None:
    s = row(ball_x=10, ball_y=50 * UNIT, velocity_x=-80, velocity_y=SPEED, paddle=100)
    tick(s, np.full(1, -160, np.int32))
    assert s[0, BALL_X] == 70 and s[0, VX] == 80 and s[0, PADDLE] == 0
    s = row(ball_y=ROOF + 6, velocity_y=-SPEED, wall=1, paddle=70 * UNIT - 1)
    tick(s, np.full(1, 160, np.int32))
    assert s[0, BALL_Y] == ROOF + 90 and s[0, VY] == SPEED and s[0, PADDLE] == 70 * UNIT


def test_a_missed_ball_costs_a_life_and_is_served_again() -> None:
    s = row(ball_x=0, ball_y=SIDE * UNIT - 1, velocity_x=0, velocity_y=SPEED, paddle=70 * UNIT)
    assert tick(s, np.zeros(1, np.int32)) == 0
    assert s[0, LIVES] == 0b11 and s[0, BALL_Y] == 42 * UNIT and 10 * UNIT <= s[0, BALL_X] < 71 * UNIT


def test_the_end_and_how_to_have_none() -> None:
    lost = {"ball_x": 0, "ball_y": SIDE * UNIT - 1, "velocity_x": 0, "velocity_y": SPEED, "lives": 1}
    x, y = brick_place(13)
    won = {"wall": 1 << 13, "ball_x": x, "ball_y": y + 7 * UNIT, "velocity_x": 0, "velocity_y": -SPEED}
    still = np.zeros(1, np.int64)
    for words, reward, name, again in ((lost, 0, "lives", 0b111), (won, 1, "wall", ALL_BRICKS)):
        gained, ended = play(row(**words), still, False)
        assert ended.all() and gained == reward
        s = row(**words)
        gained, ended = play(s, still, True)
        assert not ended.any() and gained == reward and s[0, BRICKS.word(name)] == again
