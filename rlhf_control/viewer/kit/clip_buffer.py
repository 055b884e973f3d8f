"""The frames of the clips before the annotator and of those that come next, as far as they are drawn."""

from collections.abc import Sequence
from typing import Protocol

from rlhf_control.data import Array

Size = tuple[int, int]
AHEAD = 4  # questions after the one on the screen


class Clips(Protocol):
    """Names what a window needs of `rendering.cache.ClipCache`."""

    def request(self, digests: Sequence[str], size: Size, camera: int = 0) -> None: ...
    def get(self, digest: str, size: Size, camera: int = 0) -> Array | None: ...
    def failure(self, digest: str) -> str: ...
    def error(self) -> str: ...
    def cameras(self) -> list[str]: ...
    def close(self) -> None: ...


class ClipBuffer:
    """Asks for clips ahead of time. While a clip is drawn anew, in another size or from another camera, the frames
    that were there stay in use."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips
        self.size: Size = (0, 0)
        self.camera = 0
        self._wanted: tuple[str, ...] = ()
        self._frames: dict[str, tuple[Size, int, Array]] = {}

    def want(self, digests: Sequence[str], size: Size, camera: int = 0) -> None:
        """Takes note that these clips, the nearest first, are on the screen or will be."""
        wanted = tuple(dict.fromkeys(digests))
        if (wanted, size, camera) == (self._wanted, self.size, self.camera):
            return
        self._wanted, self.size, self.camera = wanted, size, camera
        self._frames = {digest: entry for digest, entry in self._frames.items() if digest in wanted}
        self.clips.request(wanted, size, camera)

    def frames(self, digest: str) -> Array | None:
        """Returns the frames (T, H, W, 3) of a clip, or None while it was never drawn."""
        entry = self._frames.get(digest)
        if entry is not None and entry[:2] == (self.size, self.camera):
            return entry[2]
        fresh = self.clips.get(digest, self.size, self.camera)
        if fresh is not None:
            self._frames[digest] = (self.size, self.camera, fresh)
            return fresh
        return None if entry is None else entry[2]

    def problem(self, digests: Sequence[str]) -> str:
        """Says why one of these clips will never be there, or ""."""
        return next((why for digest in digests if (why := self.clips.failure(digest))), "")

    def ready(self, digests: Sequence[str]) -> int:
        """Counts how many of these clips are there."""
        return sum(self.frames(digest) is not None for digest in digests)
