"""Behaviours of ALE's games, by their RAM and points, which `Segments.state` (..., L, 131) holds: see `atari.game`.
Which bytes mean what: Anand et al. 2019, "Unsupervised State Representation Learning in Atari" (arXiv 1906.08226), and
tests.
"""

import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.atari.game import FACTS, RAM

PONG_ID = "ALE/Pong-v5"
BALL_X = 49  # from the left; 0 while no ball is in play
MIDDLE = 128  # of the field, in the units of BALL_X, where our paddle is on the right


def _ram(s: Segments, byte: int) -> Array:
    """(..., L) int64 of the game's memory."""
    if s.state is None or s.state.shape[-1] != RAM + len(FACTS):
        raise UserError("this behaviour reads the RAM of ALE's games, which these steps do not have")
    return s.state[..., byte].astype(np.int64)


def _returned(s: Segments) -> Array:
    """(..., L) 1 where our paddle sent the ball back in the step before."""
    x = _ram(s, BALL_X)
    moved = np.diff(x, axis=-1)
    turned = (moved[..., :-1] > 0) & (moved[..., 1:] < 0) & (x[..., 1:-1] > MIDDLE) & (x[..., 2:] > 0)
    return np.concatenate([np.zeros((*x.shape[:-1], 2)), turned], -1)[..., : x.shape[-1]]


def rally_reward(s: Segments) -> Array:
    """The ball sent back is worth 1, a point, whoever makes it, -1."""
    return _returned(s) - np.abs(s.env_reward)


def rally_score(s: Segments) -> Array:
    return s.env_reward.shape[-1] / np.maximum(np.abs(s.env_reward).sum(-1), 1)
