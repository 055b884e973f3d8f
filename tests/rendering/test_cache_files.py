import hashlib
import os
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.rendering.cache_files import ABANDONED, MAGIC, ClipFiles, pack_frames, unpack_frames


def frames(seed: int = 0, n: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, 20, 10, 3), np.uint8)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    files = ClipFiles(tmp_path / "clips", 10**6)
    assert files.read("a", 1) is None and not files.has("a", 1)
    files.write(frames(), "a", 1)
    again = ClipFiles(tmp_path / "clips", 10**6).read("a", 1)
    assert again is not None and again.dtype == np.uint8
    np.testing.assert_array_equal(again, frames())
    assert files.has("a", 1) and files.read("a", 2) is None and files.read("a", "1") is None
    assert [path.suffix for path in (tmp_path / "clips").iterdir()] == [".clip"]


def test_every_damaged_bit_is_noticed() -> None:
    content = pack_frames(frames(n=1))
    for place in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= 4
        assert unpack_frames(bytes(damaged)) is None
    for length in (0, 5, len(MAGIC), len(MAGIC) + 10, len(content) - 1):
        assert unpack_frames(content[:length]) is None


@pytest.mark.parametrize(
    ("head", "packed"),
    [
        ("[3, 20, 10, 3]", zlib.compress(bytes(10**7))),  # more than it says
        ("[3, 20, 10, 3]", zlib.compress(bytes(1799))),
        ("[3, 20, 10, 3]", b"nothing of zlib's"),
        ("[100000, 1000, 1000, 3]", zlib.compress(bytes(100))),  # more than a clip has
        ("[-1, 20, 10, 3]", zlib.compress(bytes(1800))),
        ("[1800]", zlib.compress(bytes(1800))),
        ("[3, 20.0, 10, 3]", zlib.compress(bytes(1800))),
        ("{}", b""),
        ("no JSON", b""),
    ],
)
def test_what_is_sealed_but_no_clip_is_not_unpacked(head: str, packed: bytes) -> None:
    """Anybody can put a seal on a file of their own: it may not fill the memory."""
    body = head.encode() + b"\n" + packed
    tracemalloc.start()
    assert unpack_frames(MAGIC + hashlib.sha256(body).digest() + body) is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10**6


def test_a_damaged_file_is_removed_and_can_be_written_again(tmp_path: Path) -> None:
    files = ClipFiles(tmp_path, 10**6)
    files.write(frames(), "a")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert files.read("a") is None and not path.exists()
    files.write(frames(), "a")
    np.testing.assert_array_equal(files.read("a"), frames())


def test_the_ones_not_looked_at_go_first(tmp_path: Path) -> None:
    size = len(pack_frames(frames()))
    files = ClipFiles(tmp_path, 3 * size + 50)
    for i in range(3):
        files.write(frames(i), i)
        os.utime(files._path((i,)), (1000 + i, 1000 + i))
    assert files.read(0) is not None  # just looked at
    files.write(frames(3), 3)
    assert [files.has(i) for i in range(4)] == [True, False, True, True]
    (tmp_path / "somebody's.mp4").write_bytes(bytes(10**6))
    ClipFiles(tmp_path, 10).write(frames(4), 4)  # too small for one: the newest stays
    assert (tmp_path / "somebody's.mp4").exists()
    assert [files.has(i) for i in range(5)] == [False] * 4 + [True]


def test_what_a_crashed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    files = ClipFiles(tmp_path, 10**6)
    name = files._path(("x",)).name
    old, new = tmp_path / f".{name}.1.tmp", tmp_path / f".{name}.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * ABANDONED,) * 2)
    files.write(frames(), "a")
    assert not old.exists() and new.exists()


def test_other_peoples_files_stay_whatever_they_are_called(tmp_path: Path) -> None:
    name = ClipFiles(tmp_path, 10)._path(("x",)).name
    theirs = ["holiday.clip", "x.clip.old", ".x.clip.1.tmp", f"copy of {name}", f"{name}.bak", f".{name}.tmp"]
    for other in theirs:
        (tmp_path / other).write_bytes(bytes(1000))
        os.utime(tmp_path / other, (0, 0))
    precious = tmp_path / "precious"
    precious.write_bytes(bytes(1000))
    (tmp_path / name).symlink_to(precious)
    ClipFiles(tmp_path, 10).write(frames(), "a")
    ClipFiles(tmp_path, 10).write(frames(), "b")
    assert all((tmp_path / other).exists() for other in theirs)
    files = ClipFiles(tmp_path, 10**6)
    assert files.read("x") is None and not files.has("x")
    files.write(frames(), "x")
    assert precious.read_bytes() == bytes(1000) and files.read("x") is not None


def test_trouble_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        ClipFiles(tmp_path / "clips", 10**6).write(frames(), "a")
    files = ClipFiles(tmp_path, 10**6)
    files._path(("a",)).mkdir()  # the rename fails
    with pytest.raises(OSError):
        files.write(frames(), "a")
    assert files.read("a") is None
    assert not list(tmp_path.glob(".*.tmp"))
