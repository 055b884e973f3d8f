"""What stands for the cache of clips in the tests of the window: coloured frames, at once or when they are told."""

from collections.abc import Sequence

import numpy as np

from rlhf_control.data import Array

FRAMES, SIDE = 20, 120


class FakeClips:
    """Stands for `rendering.cache.ClipCache`. `lazy`: nothing is ready until `draw` is called."""

    def __init__(self, lazy: bool = False, names: Sequence[str] = ("track", "side", "top")) -> None:
        self.lazy, self.names = lazy, list(names)
        self.wished: list[str] = []
        self.broken: dict[str, str] = {}
        self.problem = ""
        self.closed = False
        self.drawn: dict[str, Array] = {}

    def request(self, digests: Sequence[str], size: tuple[int, int], camera: int = 0) -> None:
        self.wished = list(digests)
        if not self.lazy:
            self.draw()

    def draw(self) -> None:
        """All that is wished for."""
        for digest in self.wished:
            if digest not in self.drawn:
                self.drawn[digest] = painted(digest)

    def get(self, digest: str, size: tuple[int, int], camera: int = 0) -> Array | None:
        return None if digest in self.broken else self.drawn.get(digest)

    def failure(self, digest: str) -> str:
        return self.broken.get(digest, "")

    def error(self) -> str:
        return self.problem

    def cameras(self) -> list[str]:
        return self.names

    def close(self) -> None:
        self.closed = True


def painted(digest: str) -> Array:
    """(T, SIDE, SIDE, 3): a ground under a sky, and a box that runs across at a speed of its own."""
    rng = np.random.default_rng(int(digest[:8], 16))
    width = height = SIDE
    frames = np.empty((FRAMES, height, width, 3), np.uint8)
    frames[:] = np.linspace((70, 110, 160), (150, 175, 200), height).astype(np.uint8)[None, :, None, :]
    ground = height * 2 // 3
    frames[:, ground:] = (58, 66, 58)
    frames[:, ground::6] = (70, 80, 70)
    color, speed, side = rng.integers(120, 255, 3), rng.uniform(0.3, 1.0), max(8, width // 6)
    for t in range(FRAMES):
        left = int((width - side) * (t / FRAMES * speed))
        top = ground - side - int(abs(np.sin(t / 2)) * height / 8)
        frames[t, top : top + side, left : left + side] = color
    return frames
