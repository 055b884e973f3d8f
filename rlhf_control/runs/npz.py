"""Archives of arrays (.npz) that may come from anybody: what they claim is held against what they are before memory is
given to it."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from rlhf_control.data import Array
from rlhf_control.errors import CorruptFileError

FREE = 64 * 2**20  # bytes that any file may unpack to
MOST = 100  # times its own size that a file may unpack to beyond that; clips shrink to a tenth
LARGEST_HEADER = 10_000  # bytes of an array's description, as in NumPy
UNREADABLE = (  # what zipfile, zlib and NumPy raise on what is damaged, foreign or hostile
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError,
    SyntaxError, RuntimeError, OverflowError, MemoryError, RecursionError, NotImplementedError, UnicodeError,
)  # fmt: skip


def read_npz(content: bytes, where: str | Path) -> dict[str, Array]:
    """Reads all arrays of an .npz, none of them pickled. Raises CorruptFileError for what is none, or unpacks to much
    more than it is; `where` names it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_claims(archive, len(content))
            return {entry.filename.removesuffix(".npy"): _read(archive, entry) for entry in archive.infolist()}
    except UNREADABLE as error:
        raise CorruptFileError(
            f"{where} is no .npz of plain arrays: {_line(error)} (damaged, cut short or with pickled "
            "objects, which are never read); use another copy"
        ) from None


def check_claims(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError for a zip of this size (bytes) that says that it unpacks to too much, names a file twice, or
    names one outside the folder that it would be unpacked to (which nothing here does)."""
    entries = archive.infolist()
    claimed = sum(entry.file_size for entry in entries)
    if claimed > FREE + MOST * size:
        raise ValueError(f"its {size:,} bytes claim to unpack to {claimed:,}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it names a file twice")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise ValueError(f"it names a file outside itself, {entry.filename[:80]!r}")


def inflate(packed: bytes, most: int | None = None) -> bytes:
    """Decompresses as `zlib.decompress`, of no more than `most` bytes (default: what a file of this size may unpack
    to). Raises ValueError for more, and zlib.error for what is damaged."""
    most = FREE + MOST * len(packed) if most is None else most
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(packed, most + 1)
    if len(content) > most:
        raise ValueError(f"its {len(packed):,} bytes unpack to more than {most:,}")
    if not decompressor.eof:
        raise zlib.error("incomplete")
    return content


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    """One array, once its description was found to fit its size."""
    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file)
        rest, numbers = entry.file_size - file.tell(), int(np.prod(shape, dtype=object))  # exact, however many
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds pickled objects")
        if min(shape, default=0) < 0 or numbers * dtype.itemsize != rest:
            raise ValueError(f"{entry.filename} claims an array {shape} of {dtype}, but has {rest:,} bytes")
        if not rest and numbers:
            raise ValueError(f"{entry.filename} claims {numbers:,} values of no size")
        array = np.empty(numbers, dtype)
        view, at = array.view(np.uint8).data if rest else memoryview(b""), 0
        while at < rest:
            n = file.readinto(view[at:])  # type: ignore[attr-defined]
            if not n:
                raise ValueError(f"{entry.filename} has {at:,} of {rest:,} bytes")
            at += n
        file.read(1)  # at the end zipfile compares the checksum
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"an array of version {version}")
    return read[version](file, max_header_size=LARGEST_HEADER)


def _line(error: BaseException) -> str:
    """What an error says, without NumPy's advice to trust the file."""
    return str(error).partition("\n")[0].partition(" Header info")[0] or type(error).__name__
