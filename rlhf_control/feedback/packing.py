"""A clip as bytes, without what the rest of it tells: lossless, and half the size.

L steps, O observation, D state. Most of an observation is some entry of the simulator's state, as float32, and most of
`next_obs` is `obs` one step later. What is so bit for bit is left out; the rest stands beside it.

A packed clip is MAGIC and a zlib stream of a line of JSON, [name, dtype, shape] of each array, and then their bytes: of
each array first the first byte of every number, then the second, and so on, because the first ones are much alike. The
arrays are those of `Segments`, and

next_obs_last    (1, O): the last row, in place of next_obs
obs_columns      (O,): which column of the state each column of obs is, -1 where it is none
obs_rest         (L, C): those that are none, in their order; with obs_columns in place of obs

Clips of before, an .npz of all the arrays, are read as well.
"""

import json
import zlib

import numpy as np

from rlhf_control.data import Array, Segments, trimmed, with_next_obs, without_next_obs
from rlhf_control.runs.npz import inflate, read_npz

Arrays = dict[str, Array]
MAGIC = b"rlhf_control clip 1\n"


def pack(clip: Segments) -> bytes:
    """Packs a clip (L, ...) into bytes."""
    arrays = clip.arrays()
    if clip.frames is not None:
        arrays["frames"] = trimmed(clip.frames)
    arrays = _without_obs(without_next_obs(arrays))
    head = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()])
    body = b"".join(_planes(array) for array in arrays.values())
    return MAGIC + zlib.compress(head.encode() + b"\n" + body, 9)


def unpack(packed: bytes) -> Segments:
    """Unpacks the clip, bit for bit. Damaged bytes raise all sorts of exceptions, or give another clip: check its
    digest."""
    if packed.startswith(MAGIC):
        return Segments(**with_next_obs(_with_obs(_read(inflate(packed[len(MAGIC) :])))))
    return Segments(**read_npz(packed, "the clip"))


def _read(content: bytes) -> Arrays:
    head, _, body = content.partition(b"\n")
    arrays, start = {}, 0
    for name, dtype, shape in json.loads(head):
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        planes = np.frombuffer(body[start : start + size], np.uint8).reshape(np.dtype(dtype).itemsize, -1)
        arrays[name] = np.ascontiguousarray(planes.T).view(dtype).reshape(shape)
        start += size
    return arrays


def _planes(array: Array) -> bytes:
    numbers = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)  # (numbers, bytes)
    return np.ascontiguousarray(numbers.T).tobytes()


def _without_obs(arrays: Arrays) -> Arrays:
    obs, state = arrays["obs"], arrays.get("state")
    if state is None or obs.dtype != np.float32 or state.dtype != np.float64 or obs.ndim != 2 or state.ndim != 2:
        return arrays
    equal = _bits(obs)[:, :, None] == _bits(_rounded(state))[:, None]  # (L, O, D)
    columns = np.where(equal.all(0).any(1), equal.all(0).argmax(1), -1)
    rest = {"obs_columns": columns.astype(np.int16), "obs_rest": obs[:, columns < 0]}
    return {name: a for name, a in arrays.items() if name != "obs"} | rest


def _with_obs(arrays: Arrays) -> Arrays:
    if "obs_columns" in arrays:
        columns, rest = arrays.pop("obs_columns"), arrays.pop("obs_rest")
        arrays["obs"] = _rounded(arrays["state"])[:, columns]
        arrays["obs"][:, columns < 0] = rest
    return arrays


def _rounded(state: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return state.astype(np.float32)


def _bits(values: Array) -> Array:
    """float32 as integers, which tell -0 from 0, and of which each equals itself."""
    return np.ascontiguousarray(values).view(np.uint32)
