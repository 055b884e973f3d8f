"""Small pictures of environments that have no simulator state to draw from, recorded as they are collected.

L steps, H height, W width. A picture is a PNG in a byte string: a few thousand bytes instead of a hundred thousand.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from rlhf_control.data import Array
from rlhf_control.errors import CorruptFileError, UserError

HEIGHT = 160  # pixels at most
PER_SECOND = 30  # at most
CHANNELS = (1, 3, 4)  # grey, colours, colours and alpha


def stride(step_seconds: float, per_second: float = PER_SECOND) -> int:
    """Returns every how many steps to take a picture, for no more than so many a second."""
    return max(1, math.ceil(1 / (per_second * step_seconds) - 1e-9))


def rendered(env: Any, env_id: str) -> Array:
    """Returns the picture that an environment draws of itself, (H, W, 3) uint8. Raises UserError, whatever goes
    wrong."""
    try:
        given = env.render()
    except UserError as error:
        raise UserError(f"{env_id} cannot be drawn: {error}") from error
    except Exception as error:  # of whatever the environment draws with
        said = " ".join(f"{type(error).__name__}: {error}".split())  # in one line
        raise UserError(f"{env_id} cannot be drawn: its render fails with {said}") from error
    try:
        return as_picture(given)
    except (UserError, ValueError) as error:  # such as lists of unequal lengths
        raise UserError(f"{env_id} cannot be drawn: its render gives {error}, not a picture (H, W, 3)") from None


def observed_picture(seen: Array) -> Array:
    """Returns what a person is shown of a picture that a policy observes: (H, W, 3) uint8. Of stacked frames, grey or
    in colour, the last."""
    first = seen.ndim == 3 and seen.shape[0] < seen.shape[-1]
    picture = np.moveaxis(seen, 0, -1) if first else seen
    if picture.ndim == 3 and picture.shape[-1] not in (1, 3):
        picture = picture[..., -3:] if picture.shape[-1] % 3 == 0 else picture[..., -1:]
    return as_picture(picture)


def as_picture(given: Any) -> Array:
    """Makes a picture (H, W, 3) uint8 of what environments' `render` gives: also of a list of pictures (the last one),
    grey ones, ones with an alpha channel or the channels first, and numbers of other types: 0 to 1 if they are floats
    and none is above 1, otherwise 0 to 255. Raises UserError, which says what it is, for anything else."""
    if given is None or isinstance(given, str | bytes):
        raise UserError("nothing" if given is None else "text")
    if isinstance(given, list | tuple) and given:
        last = np.shape(given[-1])
        if len(last) == 3 or (len(last) == 2 and last[1] not in CHANNELS):  # or it is a row of the only picture
            given = given[-1]
    picture = np.asarray(given)
    if picture.ndim == 4 and len(picture):
        picture = picture[-1]
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim == 3 and picture.shape[0] in CHANNELS and picture.shape[2] not in CHANNELS:
        picture = np.moveaxis(picture, 0, 2)
    if picture.ndim != 3 or picture.shape[2] not in CHANNELS or not picture.size or picture.dtype.kind not in "buif":
        raise UserError(f"an array {picture.shape} of {picture.dtype}")
    if picture.dtype != np.uint8:
        picture = np.nan_to_num(picture.astype(np.float64))
        unit = np.asarray(given).dtype.kind in "bf" and picture.max() <= 1
        picture = np.clip(np.rint(picture * 255 if unit else picture), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture[..., :3])


def encode(picture: Array) -> bytes:
    """Returns a picture (H, W, 3) uint8, reduced to HEIGHT, as a PNG. The same picture gives the same bytes."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.height > HEIGHT:
        image = image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # twice as fast as the default, a quarter larger
    return file.getvalue()


def encode_all(pictures: Sequence[Array]) -> Array:
    """Returns pictures of a clip's steps, (L, H, W, 3), as `Segments.frames` (L,)."""
    return np.array([encode(picture) for picture in pictures], "S")


def decode(frames: Array) -> Array:
    """Returns the pictures among a clip's `frames` (L,), (T, H, W, 3) uint8. Raises CorruptFileError."""
    try:
        return alike([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in frames.tolist() if png])
    except Exception as error:  # Pillow and NumPy fail in their own ways
        raise CorruptFileError(f"the clip's pictures cannot be read ({error})") from error


def alike(pictures: Sequence[Array]) -> Array:
    """Brings pictures that may differ in size to one, (T, H, W, 3): each as large as it can be within the first
    one's."""
    height, width, _ = pictures[0].shape
    return np.stack([
        picture if picture.shape == pictures[0].shape
        else np.asarray(ImageOps.pad(Image.fromarray(picture), (width, height), Image.Resampling.BILINEAR))
        for picture in pictures
    ])  # fmt: skip


def fit(picture: Array, width: int, height: int) -> Array:
    """Returns the picture (h, w, 3) as large as it can be within (width, height) without changing its proportions."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    if size == (picture.shape[1], picture.shape[0]):
        return np.ascontiguousarray(picture)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR))
