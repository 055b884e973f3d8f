"""Behaviours of our own games, none of which their rewards state: how the same score is had.

All read the stored states (..., L, S), so that they are the same for a policy that sees numbers, planes or pixels. A
state is what a step begins from, and holds what was to be seen one step before: so it shows what the last step did. The
reward is a function of the state; the score looks at the episode as a whole. The thresholds are design choices of this
project.

Bricks is meant with a fixed horizon (`terminate_when_unhealthy=False`): else the score says nothing of the time after
the last ball. Orchard always has one.
"""

from collections.abc import Callable

import numpy as np

from envs.games.bricks import BRICKS, MIDDLE
from envs.games.bricks import WIDTH as PADDLE_WIDTH
from envs.games.game import SIDE, STEPS, UNIT, Game
from envs.games.orchard import BEE, BEES, FRUIT, NUM_BEES, NUM_FRUITS, ORCHARD, PLAYER, TIME, TREE_X, TREE_Y, TREES
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError

BRICKS_ID, ORCHARD_ID = "rlhf/Bricks-v0", "rlhf/Orchard-v0"
NEAR, AFAR = 8, 16  # pixels between the middles of player and bee: daring below, wary above
NEEDLESS = 0.2  # fruits that a needless step costs: of two clips of the shipped player the calmer is then the better
HOME = 10  # pixels from the middle, within which the paddle is at home
STEEP = 2  # pixels a step to the side, below which a ball flies steeply


def _word(s: Segments, game: Game, name: str) -> Array:
    """(..., L) int64 of the states."""
    if s.state is None or s.state.shape[-1] != game.words:
        raise UserError(f"this behaviour reads simulator states, of {game.name}, which these steps do not have")
    return s.state[..., game.word(name)].astype(np.int64)


def _before(s: Segments, game: Game, name: str) -> Array:
    """(..., L) int64: a drawn word as it was one step before the state."""
    _word(s, game, name)
    assert s.state is not None
    return s.state[..., len(game.drawn) + game.word(name)].astype(np.int64)


def _gone(s: Segments, game: Game, name: str) -> Array:
    """(..., L) how many bits of a word the last step took away: fruits that were picked, bricks that were hit."""
    return _bits(_before(s, game, name) & ~_word(s, game, name), 18).sum(-1)


def _bits(words: Array, count: int) -> Array:
    """(..., count) 0 or 1"""
    return words[..., None] >> np.arange(count) & 1


# -- Orchard


def _fruits(s: Segments) -> Array:
    """(..., L, rows, trees of a row) 1 where there is one."""
    bits = _bits(_word(s, ORCHARD, "fruits"), TREES * TREES)
    return bits.reshape(*bits.shape[:-1], TREES, TREES)


def _rows(fruits: Array) -> Array:
    """(..., rows) fruits that are left in each row of trees."""
    return _bits(fruits, TREES * TREES).reshape(*fruits.shape, TREES, TREES).sum(-1)


def _left(s: Segments) -> Array:
    """(..., L) fruits that are left."""
    return _fruits(s).sum((-1, -2))


def _time(s: Segments) -> Array:
    """(..., L) the share of the time that is over."""
    _word(s, ORCHARD, "fruits")
    assert s.state is not None
    return np.minimum(s.state[..., STEPS] / TIME, 1)


def _to_bees(s: Segments) -> tuple[Array, Array]:
    """(..., L, bees) pixels each, from the middle of the player to the bees' to the right and down."""
    _word(s, ORCHARD, "fruits")
    assert s.state is not None
    bees = s.state[..., BEES : BEES + 2 * NUM_BEES].reshape(*s.state.shape[:-1], NUM_BEES, 2)
    player = np.stack([_word(s, ORCHARD, "player_x"), _word(s, ORCHARD, "player_y")], -1)[..., None, :]
    across = (bees + BEE / 2 - player - PLAYER / 2) / UNIT
    return across[..., 0], across[..., 1]


def _picked_share(s: Segments) -> Array:
    """(...,) of all fruits, by the end."""
    return 1 - _left(s)[..., -1] / NUM_FRUITS


def hurry_reward(s: Segments) -> Array:
    return -_left(s) / NUM_FRUITS


def hurry_score(s: Segments) -> Array:
    third = min(TIME // 3, _left(s).shape[-1] - 1)
    return 1 - _left(s)[..., third] / NUM_FRUITS


def _behind(s: Segments) -> Array:
    """(..., L) how many fruits more are left than an even pace would have left; below 0: fewer."""
    return _left(s) - NUM_FRUITS * (1 - _time(s))


def _stung(s: Segments) -> Array:
    """(..., L) whether the last step ended in a sting, after which no other comes for a while."""
    return _word(s, ORCHARD, "safe") > _before(s, ORCHARD, "safe")


def savour_reward(s: Segments) -> Array:
    return -np.abs(_behind(s)) / NUM_FRUITS - _stung(s)


def savour_score(s: Segments) -> Array:
    return (np.abs(_behind(s)) <= 1).mean(-1)


def _still(s: Segments) -> Array:
    """(..., L) whether the last step left the player where it was."""
    return np.all([_word(s, ORCHARD, name) == _before(s, ORCHARD, name) for name in ("player_x", "player_y")], axis=0)


def _needless(s: Segments) -> Array:
    """(..., L) whether the last step left the player no nearer to the nearest fruit, and yet not where it was."""
    fruits = _bits(_before(s, ORCHARD, "fruits"), TREES * TREES)

    def nearest(word: Callable[[Segments, Game, str], Array]) -> Array:
        right, down = (word(s, ORCHARD, name)[..., None] + (PLAYER - FRUIT) // 2 for name in ("player_x", "player_y"))
        return np.where(fruits, np.abs(right - TREE_X) + np.abs(down - TREE_Y), np.inf).min(-1)

    return ~_still(s) & (nearest(_word) >= nearest(_before))


def calm_reward(s: Segments) -> Array:
    return _gone(s, ORCHARD, "fruits") - NEEDLESS * _needless(s) - _stung(s)


def calm_score(s: Segments) -> Array:
    return _still(s).mean(-1) * _picked_share(s)


def _nearest(s: Segments) -> Array:
    """(..., L) pixels to the nearest bee."""
    return np.hypot(*_to_bees(s)).min(-1)


def wary_reward(s: Segments) -> Array:
    return _gone(s, ORCHARD, "fruits") + np.minimum(_nearest(s) / AFAR, 1) - _stung(s)


def wary_score(s: Segments) -> Array:
    right, down = _to_bees(s)
    return (np.maximum(np.abs(right), np.abs(down)).min(-1) > AFAR - 4).mean(-1) * _picked_share(s)


def daring_reward(s: Segments) -> Array:
    return 0.5 * _gone(s, ORCHARD, "fruits") + np.clip(2 - _nearest(s) / NEAR, 0, 1)


def daring_score(s: Segments) -> Array:
    right, down = _to_bees(s)
    return (np.maximum(np.abs(right), np.abs(down)).min(-1) < NEAR).mean(-1) * _picked_share(s)


def tidy_reward(s: Segments) -> Array:
    """Rewards what is picked, but not what begins a row of trees while another one is begun and not finished."""
    now, before = _rows(_word(s, ORCHARD, "fruits")), _rows(_before(s, ORCHARD, "fruits"))
    begun = ((before > 0) & (before < TREES - 1)).any(-1)  # it has three fruits at first
    begins = ((before == TREES - 1) & (now < before)).any(-1)
    return _gone(s, ORCHARD, "fruits") - 1.5 * (begun & begins) - _stung(s)


def tidy_score(s: Segments) -> Array:
    """Returns the share of the fruits that were picked in the row of the one before, or when that was empty; the first
    counts."""
    rows = _fruits(s).sum(-1)
    score = np.zeros(rows.shape[:-2])
    for at in np.ndindex(score.shape):
        last = -1
        for before, after in zip(rows[at][:-1], rows[at][1:], strict=True):
            for row in np.flatnonzero(before > after):
                score[at] += before[row] - after[row] if last in (-1, row) or not before[last] else 0
                last = int(row)
    return score / NUM_FRUITS


# -- Bricks


def _missed(s: Segments) -> Array:
    """(..., L) whether the last step missed a ball: it was served again from half-way up, with a life less."""
    return _word(s, BRICKS, "lives") != _before(s, BRICKS, "lives")


def _off_home(s: Segments) -> Array:
    """(..., L) pixels between the paddle and the middle."""
    return np.abs(_word(s, BRICKS, "paddle") + PADDLE_WIDTH / 2 - SIDE * UNIT / 2) / UNIT


def home_reward(s: Segments) -> Array:
    return _gone(s, BRICKS, "wall") - _off_home(s) / 70 - 2 * _missed(s)


def _kept(s: Segments) -> Array:
    """(...,) share of the balls that came down and were returned."""
    lives, velocity = _word(s, BRICKS, "lives"), _word(s, BRICKS, "velocity_y")
    low = _word(s, BRICKS, "ball_y")[..., :-1] > MIDDLE
    missed = (lives[..., 1:] != lives[..., :-1]).sum(-1)
    returned = ((velocity[..., :-1] > 0) & (velocity[..., 1:] < 0) & low).sum(-1)
    return returned / np.maximum(returned + missed, 1)


def home_score(s: Segments) -> Array:
    return (_off_home(s) < HOME).mean(-1) * _kept(s)


def steep_reward(s: Segments) -> Array:
    return _gone(s, BRICKS, "wall") - np.abs(_word(s, BRICKS, "velocity_x")) / 64 - 2 * _missed(s)


def steep_score(s: Segments) -> Array:
    across = np.abs(np.diff(_word(s, BRICKS, "ball_x"), axis=-1)) / UNIT
    return (across < STEEP).mean(-1) * _kept(s)
