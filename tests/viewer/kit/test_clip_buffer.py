import numpy as np

from rlhf_control.data import Array
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer
from tests.fake_clips import FakeClips

A, B, C = (letter * 64 for letter in "abc")
SIZE = (320, 320)


class Clips(FakeClips):
    """Frames of one number: which drawing it is."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[tuple[list[str], tuple[int, int], int]] = []
        self.there: dict[tuple[str, tuple[int, int], int], Array] = {}

    def request(self, digests, size, camera=0):  # type: ignore[no-untyped-def]
        self.orders.append((list(digests), size, camera))

    def get(self, digest, size, camera=0):  # type: ignore[no-untyped-def]
        return self.there.get((digest, size, camera))

    def finish(self, digest: str, size: tuple[int, int], camera: int = 0) -> Array:
        self.there[digest, size, camera] = np.zeros((2, 4, 4, 3), np.uint8)
        return self.there[digest, size, camera]


def test_orders_change_only_when_the_wishes_do() -> None:
    buffer = ClipBuffer(clips := Clips())
    for _ in range(3):
        buffer.want([A, B, A], SIZE)
    assert clips.orders == [([A, B], SIZE, 0)]
    buffer.want([B], SIZE)
    buffer.want([B], SIZE, 1)
    assert len(clips.orders) == 3


def test_old_frames_stay_until_the_new_ones_are_there() -> None:
    buffer = ClipBuffer(clips := Clips())
    buffer.want([A, B], SIZE)
    assert buffer.frames(A) is None
    small = clips.finish(A, SIZE)
    assert buffer.frames(A) is small and buffer.frames(B) is None and buffer.ready([A, B]) == 1
    buffer.want([A, B], (480, 480))
    assert buffer.frames(A) is small
    large = clips.finish(A, (480, 480))
    assert buffer.frames(A) is large
    buffer.want([A, B], (480, 480), 1)
    assert buffer.frames(A) is large
    side = clips.finish(A, (480, 480), 1)
    assert buffer.frames(A) is side
    buffer.want([C], (480, 480), 1)
    buffer.want([A], (480, 480), 2)
    assert buffer.frames(A) is None  # what was not wanted any more is let go of


def test_problems_are_told() -> None:
    buffer = ClipBuffer(clips := Clips())
    assert buffer.problem([A, B]) == ""
    clips.broken[B] = "it is damaged"
    assert buffer.problem([A, B]) == "it is damaged"
