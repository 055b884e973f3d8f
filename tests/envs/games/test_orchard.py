"""The rules of Orchard, worked by hand."""

import numpy as np

from envs.games.game import STEPS, UNIT, generators, seeded
from envs.games.orchard import (
    BEES,
    CLOCK,
    FLIGHT,
    FRUITS,
    HEADING,
    LEFT,
    NUM_FRUITS,
    ORCHARD,
    PLAYER_X,
    PLAYER_Y,
    SAFE,
    SAFE_TICKS,
    TREE_X,
    TREE_Y,
    WALK,
    begin,
    play,
    tick,
)

STILL = np.zeros((1, 2), np.int32)


def far() -> np.ndarray:
    """A row whose bees hang motionless in the lower right corner, and the player in the upper left."""
    s = np.zeros((1, ORCHARD.words), np.int32)
    begin(s)
    s[0, BEES : BEES + 6], s[0, FLIGHT : FLIGHT + 6] = 80 * UNIT, 0
    s[0, PLAYER_X], s[0, PLAYER_Y], s[0, SAFE] = 0, 7 * UNIT, 0
    return s


def test_twelve_fruits_three_in_each_row() -> None:
    s = np.zeros((200, ORCHARD.words), np.int32)
    generators(s)[:] = seeded(list(range(200)))
    begin(s)
    fruits = (s[:, FRUITS, None] >> np.arange(16) & 1).reshape(200, 4, 4)
    assert (fruits.sum(2) == 3).all() and fruits.sum((1, 2))[0] == NUM_FRUITS
    assert (fruits.mean(0) > 0.6).all() and (fruits.mean(0) < 0.9).all()  # each tree bears nothing now and then


def test_a_fruit_that_is_touched_is_picked_once() -> None:
    s = far()
    s[0, FRUITS] = 0b110
    s[0, PLAYER_X], s[0, PLAYER_Y] = TREE_X[1] - 5 * UNIT, TREE_Y[1]  # edge to edge
    assert tick(s, STILL) == 0
    assert tick(s, np.array([[WALK, 0]])) == 1 and s[0, FRUITS] == 0b100
    assert tick(s, STILL) == 0


def test_a_sting_costs_one_and_then_there_is_peace_for_a_while() -> None:
    s = far()
    s[0, FRUITS] = 0
    s[0, BEES : BEES + 4] = s[0, PLAYER_X], s[0, PLAYER_Y], s[0, PLAYER_X], s[0, PLAYER_Y]  # two bees at once
    assert tick(s, STILL) == -1 and s[0, SAFE] == SAFE_TICKS
    assert [int(tick(s, STILL)[0]) for _ in range(SAFE_TICKS)] == [0] * SAFE_TICKS and s[0, SAFE] == 0
    assert tick(s, STILL) == -1


def test_bees_turn_at_the_edges() -> None:
    s = far()
    s[0, BEES], s[0, BEES + 1], s[0, FLIGHT], s[0, FLIGHT + 1] = 80 * UNIT - 8, 7 * UNIT + 4, 48, -34
    tick(s, STILL)
    assert s[0, BEES : BEES + 2].tolist() == [80 * UNIT - 40, 7 * UNIT + 30]
    assert s[0, FLIGHT : FLIGHT + 2].tolist() == [-48, 34]


def test_the_player_walks_and_looks_ahead() -> None:
    for action, heading, right, down in ((1, 1, 0, -1), (2, 2, 0, 1), (3, 4, -1, 0), (4, 8, 1, 0), (0, 8, 0, 0)):
        s = far()
        s[0, PLAYER_X], s[0, PLAYER_Y] = 24 * UNIT, 26 * UNIT
        reward, terminated = play(s, np.array([action]), False)
        moved = s[0, PLAYER_X] - 24 * UNIT, s[0, PLAYER_Y] - 26 * UNIT
        assert moved == (3 * WALK * right, 3 * WALK * down) and s[0, HEADING] == heading
        assert not reward.any() and not terminated.any()


def test_the_clock_runs_down() -> None:
    s = far()
    s[0, STEPS] = 119  # the steps before
    play(s, np.array([0]), False)
    assert s[0, LEFT] == 512 and s[0, CLOCK] == 0b111111
    s[0, STEPS] = 239
    play(s, np.array([0]), False)
    assert s[0, LEFT] == 0 and s[0, CLOCK] == 0
    s[0, STEPS] = 1000  # under a longer limit
    play(s, np.array([0]), False)
    assert s[0, LEFT] == 0 and s[0, CLOCK] == 0
