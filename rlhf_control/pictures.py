"""Small pictures of environments that have no simulator state to draw from, recorded as they are collected.

L steps, H height, W width. A picture is a PNG in a byte string: a few thousand bytes instead of a hundred thousand.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rlhf_control.data import Array
from rlhf_control.errors import CorruptFileError

HEIGHT = 160  # pixels at most
PER_SECOND = 30  # at most


def stride(step_seconds: float) -> int:
    """Every how many steps to take a picture."""
    return max(1, math.ceil(1 / (PER_SECOND * step_seconds) - 1e-9))


def encode(picture: Array) -> bytes:
    """A picture (H, W, 3) uint8, reduced to HEIGHT, as a PNG. The same picture gives the same bytes."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.height > HEIGHT:
        image = image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # twice as fast as the default, a quarter larger
    return file.getvalue()


def encode_all(pictures: Sequence[Array]) -> Array:
    """Pictures of a clip's steps, (L, H, W, 3), as `Segments.frames` (L,)."""
    return np.array([encode(picture) for picture in pictures], "S")


def decode(frames: Array) -> Array:
    """(T, H, W, 3) uint8: the pictures among a clip's `frames` (L,). Raises CorruptFileError."""
    try:
        return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in frames.tolist() if png])
    except Exception as error:  # Pillow and NumPy fail in their own ways
        raise CorruptFileError(f"the clip's pictures cannot be read ({error})") from error


def fit(picture: Array, width: int, height: int) -> Array:
    """The picture (h, w, 3) as large as it can be within (width, height) without changing its proportions."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    if size == (picture.shape[1], picture.shape[0]):
        return np.ascontiguousarray(picture)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR))
