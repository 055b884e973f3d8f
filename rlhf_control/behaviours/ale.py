"""Behaviours of ALE's games, by their RAM, as it is and as it was one step before: see `simulation.atari.game`.

Which bytes mean what: Anand et al. (arXiv 1906.08226), and tests. A point is made whoever makes it.
"""

import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.atari.game import FACTS, RAM

PONG_ID = "ALE/Pong-v5"
BALL_X, BALL_TO_US, THEIR_POINTS, OUR_POINTS, OUR_Y = 49, 58, 13, 14, 51  # bytes; our paddle is on the right
COMES, GOES = 255, 1  # values of BALL_TO_US
NEAR_US = 160  # in the units of BALL_X, of which our paddle stands at 190
MIDDLE, NEAR = 120, 16  # of the paddle's top, which goes from 38 to 203, and how far from it is near
FAR = 41  # half of how far from the middle it can be
MISSED = 10.0  # steps in the middle, that a missed ball costs
LONG = 150  # steps, ten seconds: a long rally


def _ram(s: Segments, byte: int) -> tuple[Array, Array]:
    """(..., L) int64 each: a byte of the game's memory, as it is and as it was one step before."""
    if s.state is None or s.state.shape[-1] != FACTS:
        raise UserError("this behaviour reads simulator states, of ALE's games, which these steps do not have")
    return s.state[..., byte].astype(np.int64), s.state[..., RAM + byte].astype(np.int64)


def _returned(s: Segments) -> Array:
    """(..., L) whether our paddle sent the ball back in the last step."""
    now, before = _ram(s, BALL_TO_US)
    return (before == COMES) & (now == GOES) & (_ram(s, BALL_X)[0] > NEAR_US)


def _points(s: Segments) -> Array:
    """(..., L) how many points the last step brought, to either side."""
    made = sum(now - before for now, before in (_ram(s, THEIR_POINTS), _ram(s, OUR_POINTS)))
    return np.maximum(made, 0)  # a new game begins at 0


def rally_reward(s: Segments) -> Array:
    """The ball sent back is worth 1, a point -1."""
    return _returned(s).astype(np.float64) - _points(s)


def rally_score(s: Segments) -> Array:
    points = _points(s) > 0
    length = points.shape[-1]
    at = np.arange(length)
    last = np.maximum.accumulate(np.where(points, at, 0), -1)  # the step of the last point before each
    ahead = np.minimum.accumulate(np.where(points, at, length)[..., ::-1], -1)[..., ::-1]
    return (np.where(points, 0, ahead - last) >= LONG).mean(-1)


def _rests(s: Segments) -> tuple[Array, Array]:
    """(..., L) bool each: whether there is time to rest, as the ball does not come, and whether our paddle is near the
    middle."""
    return _ram(s, BALL_TO_US)[0] != COMES, np.abs(_ram(s, OUR_Y)[0] - MIDDLE) < NEAR


def centre_reward(s: Segments) -> Array:
    """A step while the ball does not come is worth 1 with the paddle in the middle and -1 with it at an edge; a missed
    ball costs MISSED. Were all of those steps worth something, the better of two clips would be the one in which the
    ball is away for longer."""
    away = _ram(s, BALL_TO_US)[0] != COMES
    now, before = _ram(s, THEIR_POINTS)
    return away * (1.0 - np.abs(_ram(s, OUR_Y)[0] - MIDDLE) / FAR) - MISSED * (now > before)


def centre_score(s: Segments) -> Array:
    time, near = _rests(s)
    return (time & near).sum(-1) / np.maximum(time.sum(-1), 1)
