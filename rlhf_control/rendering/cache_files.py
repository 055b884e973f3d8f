"""Drawn clips on the disk. The folder is a cache: what is missing or damaged is drawn again, and when it is full, the
clips that nobody has looked at for longest go. Several processes may share it, and other files may stand there.

A file is MAGIC, the SHA-256 of the rest, and the rest: a line of JSON (the frames' shape) and zlib's stream of them.
"""

import hashlib
import json
import math
import os
import re
import stat
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from rlhf_control.data import Array
from rlhf_control.runs.files import read_own, replace_file
from rlhf_control.runs.npz import inflate

MAGIC = b"rlhf_control frames 1\n"
LEVEL = 1  # of zlib: 15 MB become 1.5 in 70 ms, and come back in 40; more effort gains a twentieth
NAME = re.compile(r"[0-9a-f]{40}\.clip")  # see `_path`; other names are other people's
UNFINISHED = re.compile(r"\.[0-9a-f]{40}\.clip\.[0-9]+\.tmp")  # see `files.replace_file`
MOST = 2**30  # bytes that the frames of a clip may be: 1,000 frames of 480 x 480 are 0.7 of them
ABANDONED = 600  # seconds after which a temporary file has lost its writer


class ClipFiles:
    """Frames by name, `limit` bytes in all."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def read(self, *key: object) -> Array | None:
        """Returns frames (T, H, W, 3) uint8, or None if they are not there; a damaged file is removed."""
        path = self._path(key)
        try:
            content = read_own(path)
        except OSError:
            return None
        frames = unpack_frames(content)
        with suppress(OSError):
            if frames is None:
                path.unlink()
            else:
                os.utime(path, follow_symlinks=False)
        return frames

    def has(self, *key: object) -> bool:
        """Tells whether there is a file, and counts as looking at it."""
        try:
            os.utime(self._path(key), follow_symlinks=False)
            return stat.S_ISREG(os.lstat(self._path(key)).st_mode)
        except OSError:
            return False

    def write(self, frames: Array, *key: object) -> None:
        """Keeps frames; a reader finds all of them or nothing. Raises OSError, and leaves nothing behind."""
        path = self._path(key)
        content = pack_frames(frames)
        self.folder.mkdir(exist_ok=True)
        replace_file(path, content)
        self._make_room(path.name)

    def _path(self, key: tuple[object, ...]) -> Path:
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]}.clip"

    def _make_room(self, newest: str) -> None:
        """Removes the files that were looked at longest ago, and what crashed writers left."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # another process was faster
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    if NAME.fullmatch(entry.name):
                        files.append((entry.name == newest, status.st_mtime, status.st_size, entry.path))
                    elif UNFINISHED.fullmatch(entry.name) and status.st_mtime < time.time() - ABANDONED:
                        os.unlink(entry.path)
        total = sum(size for _, _, size, _ in files)
        for is_newest, _, size, path in sorted(files):
            if total <= self.limit or is_newest:
                break
            total -= size
            with suppress(OSError):
                os.unlink(path)


def pack_frames(frames: Array) -> bytes:
    """Packs frames (T, H, W, 3) uint8 as the content of a file."""
    body = json.dumps(frames.shape).encode() + b"\n" + zlib.compress(np.ascontiguousarray(frames).data, LEVEL)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack_frames(content: bytes) -> Array | None:
    """Returns the frames (T, H, W, 3) uint8, or None if a single bit is not as it was written, or if what was written
    is not that: the seal shows damage, not who has made the file."""
    seal, body = content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if not content.startswith(MAGIC) or hashlib.sha256(body).digest() != seal:
        return None
    head, _, packed = body.partition(b"\n")
    try:
        shape = tuple(json.loads(head))
        size = math.prod(shape)
        if len(shape) != 4 or shape[3] != 3 or not all(type(length) is int and length > 0 for length in shape):
            return None
        if size > MOST:
            return None
        return np.frombuffer(inflate(packed, size), np.uint8).reshape(shape)
    except (ValueError, TypeError, RecursionError, zlib.error):
        return None
