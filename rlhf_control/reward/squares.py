"""Squares beside numbers: with them one layer tells how near a step is to what is sought, wherever that lies.

That a gripper is within 2 cm of its goal a network of the numbers alone has to learn from many bends, and beyond what
it was shown they lead anywhere; a sum of squares has its one peak there, and falls on all sides. B rows, I inputs.
"""

import math

import torch
from torch import Tensor

ROOT = math.sqrt(2.0)  # the standard deviation of x^2, where that of x is 1 (and x normal)


def with_squares(x: Tensor, limit: float) -> Tensor:
    """Returns standardised numbers x (..., I) and, behind them, (x^2 - 1) / sqrt(2), (..., 2 I), both clipped to
    +-limit."""
    x = x.clamp(-limit, limit)
    return torch.cat([x, ((x.square() - 1) / ROOT).clamp(-limit, limit)], -1)


def restandardise(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Changes a first layer on `with_squares`, weight (E, 2 I, O) and bias (E, 1, O), in place, so that it says of y
    what it said of x = scale * y + shift (I,), but for the clipping. For x^2 = scale^2 y^2 + 2 scale shift y +
    shift^2:

        (x^2 - 1) / sqrt(2) = scale^2 (y^2 - 1) / sqrt(2) + sqrt(2) scale shift y + (scale^2 + shift^2 - 1) / sqrt(2)
    """
    linear, square = weight.tensor_split(2, dim=1)  # views
    bias += (shift @ linear + ((scale.square() + shift.square() - 1) / ROOT) @ square)[:, None]
    linear *= scale[:, None]
    linear += (ROOT * scale * shift)[:, None] * square
    square *= scale.square()[:, None]
