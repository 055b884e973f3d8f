"""Screens made small, and stacked. In C where there is a compiler, else in NumPy: the same bits.

H, W of the screen, h, w of the observation, K its pictures.
"""

import ctypes
import math
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.compute.compiler import load

Array = np.ndarray
SOURCE = Path(__file__).with_name("pictures.c")
INT, POINTER = ctypes.c_int64, ctypes.c_void_p
ARGUMENTS: dict[str, list[Any]] = {
    "atari_shrink": [POINTER, POINTER, *[INT] * 6, *[POINTER] * 6],
    "atari_push": [POINTER, POINTER, INT, INT, INT],
}


class Shrinker:
    """Makes screens of one size smaller: the mean over the area of each new pixel, with the sums in the order of
    OpenCV's INTER_AREA, which is what ALE's own vector environment uses."""

    def __init__(self, height: int, width: int, out_height: int, out_width: int, compiled: bool = True) -> None:
        self.size, self.out_size = (height, width), (out_height, out_width)
        self._first_y, self._weight_y = taps(height, out_height)
        self._first_x, self._weight_x = taps(width, out_width)
        library = load(SOURCE, work="Atari's pictures") if compiled else None
        self._call = None if library is None else library.atari_shrink
        if self._call is not None:
            self._call.argtypes, self._call.restype = ARGUMENTS["atari_shrink"], None
            self._rows = np.empty((height, out_width), np.float32)

    def __call__(self, one: Array, two: Array) -> Array:
        """Return the brighter pixels of two screens (H, W) uint8, made small: (h, w) uint8."""
        out = np.empty(self.out_size, np.uint8)
        if self._call is None:
            screen = np.maximum(one, two).astype(np.float32)
            rows = weighted(screen, self._first_x, self._weight_x, 1)
            out[:] = np.rint(weighted(rows, self._first_y, self._weight_y, 0))
            return out
        taps = self._weight_y.shape[1], self._weight_x.shape[1]
        tables = self._first_y, self._weight_y, self._first_x, self._weight_x, self._rows, out
        self._call(
            one.ctypes.data, two.ctypes.data, *self.size, *self.out_size, *taps, *(t.ctypes.data for t in tables)
        )
        return out


def weighted(values: Array, first: Array, weight: Array, axis: int) -> Array:
    """Return the weighted sums of neighbours along an axis, added up one after the other, in float32."""
    shape = (-1, 1) if axis == 0 else (1, -1)
    total = np.float32(0)
    for k in range(weight.shape[1]):
        at = np.minimum(first + k, values.shape[axis] - 1)  # beyond the edge the weight is zero
        total = total + values.take(at, axis) * weight[:, k].reshape(shape)
    return total  # type: ignore[return-value]


def taps(size: int, out_size: int) -> tuple[Array, Array]:
    """Return for each new pixel the first of the old ones that it covers, (n,) int32, and how much of it each of them
    and of those behind it is, (n, taps) float32; as OpenCV's computeResizeAreaTab has it."""
    scale = size / out_size
    found: list[tuple[int, list[float]]] = []
    for i in range(out_size):
        start, stop = i * scale, i * scale + scale
        cell = min(scale, size - start)
        last = min(math.floor(stop), size - 1)
        first = min(math.ceil(start), last)
        weights = [1 / cell] * (last - first)
        if stop - last > 1e-3:
            weights.append(min(stop - last, 1.0, cell) / cell)
        if first - start > 1e-3:
            first -= 1
            weights.insert(0, (first + 1 - start) / cell)
        found.append((first, weights))
    table = np.zeros((out_size, max(len(weights) for _, weights in found)), np.float32)
    for row, (_, weights) in zip(table, found, strict=True):
        row[: len(weights)] = weights
    return np.array([first for first, _ in found], np.int32), table


class Stacker:
    """Shifts stacks of pictures by one."""

    def __init__(self, compiled: bool = True) -> None:
        library = load(SOURCE, work="Atari's pictures") if compiled else None
        self._call = None if library is None else library.atari_push
        if self._call is not None:
            self._call.argtypes, self._call.restype = ARGUMENTS["atari_push"], None

    def __call__(self, stacks: Array, pictures: Array) -> Array:
        """Return stacks (n, h, w, K) without their oldest pictures, with new ones (n, h, w) behind the others."""
        if self._call is None:
            return np.concatenate([stacks[..., 1:], pictures[..., None]], -1)
        out, pictures = stacks.copy(), np.ascontiguousarray(pictures)
        n, height, width, depth = out.shape
        self._call(out.ctypes.data, pictures.ctypes.data, n, height * width, depth)
        return out
