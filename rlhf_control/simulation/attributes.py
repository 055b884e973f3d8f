"""Numbers that an environment keeps beside its simulator: goals, counters, what it saw a step ago.

They are those among its own attributes. K numbers hold, for each, one for its name, how many follow, and these.
"""

import zlib
from functools import cache
from typing import Any

import numpy as np

from rlhf_control.data import Array

LARGEST = 64  # numbers of one attribute; larger ones are tables


def is_number(value: Any) -> bool:
    """Tells whether it is a number or a small array of them."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and value.size <= LARGEST
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)


@cache
def code(name: str) -> int:
    """Returns a number for a name, the same in every process."""
    return zlib.crc32(name.encode())


def read(env: Any) -> Array:
    """Returns the attributes (K,) float64."""
    found: list[Any] = [
        (code(name), np.size(value), *np.ravel(value))
        for name, value in vars(env).items()
        if is_number(value) and name != "_np_random_seed"
    ]
    return np.concatenate([[], *found]).astype(np.float64)


def put(env: Any, numbers: Array) -> None:
    """Gives the attributes their numbers (K,), those that are as many as now."""
    attributes = vars(env)
    names = {code(name): name for name, value in attributes.items() if is_number(value)}
    at = 0
    while at + 2 <= len(numbers):
        name, size = names.get(int(numbers[at])), int(numbers[at + 1])
        value, at = numbers[at + 2 : at + 2 + size], at + 2 + max(size, 0)
        if name is None or not np.size(attributes[name]) == len(value) == size:
            continue
        now = attributes[name]
        if not isinstance(now, np.ndarray):
            attributes[name] = type(now)(value[0])
        elif now.flags.writeable:  # in its place: others may hold it too
            now[...] = value.reshape(now.shape)
        else:
            attributes[name] = value.reshape(now.shape).astype(now.dtype)
