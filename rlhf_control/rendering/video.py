"""Captions, clips side by side, and video files.

T time, H height, W width. Frames are (T, H, W, 3) uint8.
"""

import functools
import io
import math
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic

BACKGROUND = 24  # grey level around the clips of a video, and behind captions

# -- captions


def caption(frames: Array, text: str, sub: str | Sequence[str] = "") -> Array:
    """Returns frames (T, H, W, 3) with `text` above them and `sub`, one line or one per frame, below: nothing that is
    drawn is covered."""
    size = max(11, frames.shape[1] // 17)
    below = [sub] * len(frames) if isinstance(sub, str) else sub
    bands = [_bands([text] * len(frames), frames.shape[2], size)] if text else []
    bands.append(frames)
    if any(below):
        bands.append(_bands(below, frames.shape[2], size - 3))
    return np.concatenate(bands, 1)


def _bands(lines: Sequence[str], width: int, size: int) -> Array:
    """White lines of text, one a frame, each on a dark band of its own: (T, h, width, 3)."""
    drawn = {line: _band(line, width, size * 8 // 5, size) for line in set(lines)}
    return np.stack([drawn[line] for line in lines])


def _band(text: str, width: int, height: int, size: int) -> Array:
    while size > 9 and font(size).getlength(text) > width - 12:
        size -= 1
    while len(text) > 4 and font(size).getlength(text) > width - 12:
        text = text[:-4] + "..."
    band = Image.new("L", (width, height), BACKGROUND)
    ImageDraw.Draw(band).text((width / 2, height / 2), text, fill=255, font=font(size), anchor="mm")
    return np.repeat(np.asarray(band)[..., None], 3, -1)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def side_by_side(clips: Sequence[Array], pad: int = 8) -> Array:
    """Puts clips (T_i, H_i, W_i, 3) next to each other, `pad` pixels apart; the shorter ones end on a still."""
    length, height = max(map(len, clips)), max(clip.shape[1] for clip in clips)
    width = sum(clip.shape[2] for clip in clips) + pad * (len(clips) - 1)
    frames = np.full((length, height, width, 3), BACKGROUND, np.uint8)
    left = 0
    for clip in clips:
        upper = (height - clip.shape[1]) // 2
        place = frames[:, upper : upper + clip.shape[1], left : left + clip.shape[2]]
        place[: len(clip)] = clip
        place[len(clip) :] = clip[-1]
        left += clip.shape[2] + pad
    return frames


# -- files


def write_video(path: str | Path, frames: Array, fps: float) -> None:
    """Writes frames (T, H, W, 3) as an mp4 (H.264, yuv420p) that every browser plays. Raises UserError on disk
    trouble."""
    # H.264 halves the colours' resolution, so sizes must be even.
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    _, height, width, _ = frames.shape
    try:
        with tempfile.TemporaryDirectory() as folder:
            encoded = Path(folder) / "video.mp4"
            command = [
                imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error",
                "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-",
                "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p",
                "-movflags", "+faststart", str(encoded),
            ]  # fmt: skip
            ffmpeg = subprocess.run(command, input=np.ascontiguousarray(frames).data, capture_output=True)
            if ffmpeg.returncode != 0:
                raise OSError("; ".join(ffmpeg.stderr.decode(errors="replace").split("\n")).strip("; "))
            content = encoded.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: imageio-ffmpeg has no ffmpeg for this machine
        raise UserError(f"cannot encode {path}: {error}; is {tempfile.gettempdir()} full?") from error
    write_atomic(path, content)


def write_gif(path: str | Path, frames: Array, fps: float, colors: int = 64) -> None:
    """Writes frames (T, H, W, 3) as an endless GIF of few colours, at most 25 frames a second; small enough for a
    README."""
    stride = math.ceil(fps / 25)
    # A GIF counts in hundredths of a second: each frame ends at the one next to its time, so that no error adds up.
    ends = np.rint(100 * np.minimum(np.arange(0, len(frames) + stride, stride), len(frames)) / fps)
    durations = (10 * np.maximum(np.diff(ends), 2)).astype(int).tolist()  # ms; below 2/100 s browsers take 10/100
    frames = frames[::stride]
    # One palette for all, from a few frames spread over the clip, so that nothing flickers. By octree, because the
    # median cut spends all colours on the sky and leaves the body grey.
    sample = frames[np.linspace(0, len(frames) - 1, min(len(frames), 8)).astype(int)]
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(colors, Image.Quantize.FASTOCTREE)
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True)
    write_atomic(path, file.getvalue())
