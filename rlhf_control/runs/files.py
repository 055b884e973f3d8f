"""Sealed files: nested dictionaries of arrays and plain values in one .npz, atomic to write and checked to read.

The file is an ordinary zip of .npy arrays (`numpy.load` reads it) whose zip comment holds the SHA-256 of every
byte before it. Nothing is pickled, so reading one cannot run code.
"""

import errno
import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.npz import FREE, MOST, read_npz

SEAL = b"rlhf_control sha256:"
DIGITS = 64
PICTURES, SAMPLE = 2**20, 2**16  # bytes: of an array that may be compressed, and of it those that decide
LARGE = 2**16  # bytes of an array that is stored once, however often it is in a state
PLAIN = "plain.json"  # the entry that holds everything that is not an array
SAME = "same.json"  # and one that says which arrays are stored under another's name, if any are


class ForeignFileError(UserError, OSError):
    """Says that there is a link, a pipe or a folder in the place of a file of ours. It is an OSError too, so that
    whoever does without a file that cannot be opened does without this one."""

    def __init__(self, path: str | Path, what: str) -> None:
        super().__init__(f"{path} is {what}, where a file of rlhf_control belongs; move it away")
        self.strerror = f"it is {what}; move it away"


MODES = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR | os.O_CREAT,
    "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "wb": os.O_WRONLY | os.O_CREAT,
}


def open_own(path: str | Path, mode: Literal["rb", "r+b", "ab", "wb"] = "rb", *, follow: bool = False) -> IO[bytes]:
    """Opens a file that only this program makes: "rb" to read, "r+b" to lock, "ab" to append, "wb" to write anew. All
    but the first make it when it is missing.

    It is a regular file of that very name: no link is followed (unless `follow`, for a file that the user named), a
    pipe does not make it wait, and nothing is cut before that is known. A file with further names (hard links) keeps
    them and what it holds; a copy of its own is written to. Raises ForeignFileError, and OSError as `open` does.
    """
    flags = MODES[mode] | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if what := _foreign(os.lstat(path)) if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR) else "":
            raise ForeignFileError(path, what) from error
        raise
    try:
        status = os.fstat(descriptor)
        if what := _foreign(status):
            raise ForeignFileError(path, what)
        if status.st_nlink < 2 or mode not in ("ab", "wb"):
            if mode == "wb":
                os.ftruncate(descriptor, 0)
            return os.fdopen(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    replace_file(Path(path), read_own(path) if mode == "ab" else b"")
    return open_own(path, mode)


def read_own(path: str | Path, *, follow: bool = False) -> bytes:
    """Returns the content of a file, opened by `open_own`."""
    with open_own(path, follow=follow) as file:
        return file.read()


def refuse_foreign(path: str | Path) -> None:
    """Raises ForeignFileError unless a file that others will open is a regular one of that very name, or missing."""
    with suppress(FileNotFoundError):
        if what := _foreign(os.lstat(path)):
            raise ForeignFileError(path, what)


def _foreign(status: os.stat_result) -> str:
    """What this is, unless it is a regular file."""
    names = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    return "" if stat.S_ISREG(status.st_mode) else names.get(stat.S_IFMT(status.st_mode), "a device or a socket")


def save_state(path: str | Path, state: Mapping[str, Any], *, make_folder: bool = True) -> None:
    """Writes nested dicts of arrays, numbers, strings, None and lists of them. Afterwards either the new file is
    whole on the disk or the old one is untouched. `make_folder`: see `write_atomic`."""
    arrays: dict[str, np.ndarray] = {}
    plain = _split(state, "", arrays)
    same = take_out_twins(arrays)
    arrays[PLAIN] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    if same:
        arrays[SAME] = np.frombuffer(json.dumps(same).encode(), np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=1) as archive:
        for name, array in arrays.items():
            archive.compression = zipfile.ZIP_DEFLATED if shrinks(array) else zipfile.ZIP_STORED
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
        archive.comment = SEAL + b"0" * DIGITS
    with buffer.getbuffer() as content:  # which may be hundreds of megabytes: no copies
        content[-DIGITS:] = hashlib.sha256(content[:-DIGITS]).hexdigest().encode()
        write_atomic(path, content, make_folder=make_folder)


def take_out_twins(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Takes out large arrays that are, bit for bit and in their layout, another one that stays; returns whose name
    each went by."""
    first: dict[Any, str] = {}
    same: dict[str, str] = {}
    for name, array in list(arrays.items()):
        if array.nbytes >= LARGE:
            digest = hashlib.sha256(np.ascontiguousarray(array)).digest()  # type: ignore[arg-type]  # a buffer
            own = first.setdefault((array.dtype.str, array.shape, array.flags.fnc, digest), name)
            if own != name:
                same[name] = own
                del arrays[name]
    return same


def put_twins_back(arrays: dict[str, np.ndarray], size: int) -> None:
    """Undoes `take_out_twins` in what was read of a file of so many bytes. Raises ValueError for more than it may
    unpack to."""
    if SAME not in arrays:
        return
    same: dict[str, str] = json.loads(arrays.pop(SAME).tobytes())
    if sum(arrays[own].nbytes for own in same.values()) > FREE + MOST * size:
        raise ValueError("it repeats arrays too often")
    arrays.update({name: arrays[own].copy(order="K") for name, own in same.items()})


def shrinks(array: np.ndarray) -> bool:
    """Tells whether an array is of pictures that are worth compressing, by the middle of it."""
    if array.dtype != np.uint8 or array.nbytes < PICTURES:
        return False
    flat = array.ravel()  # a view, but of arrays whose rows lie apart
    some = flat[len(flat) // 2 :][:SAMPLE].tobytes()
    return len(zlib.compress(some, 1)) < 0.8 * len(some)


def load_state(path: str | Path) -> dict[str, Any]:
    """Reads what `save_state` wrote. Raises CorruptFileError if a single bit differs."""
    path = Path(path)
    try:
        data = read_own(path, follow=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except ForeignFileError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    content, seal = data[:-DIGITS], data[-DIGITS:]
    if not content.endswith(SEAL):
        raise CorruptFileError(f"{path} is not a file of rlhf_control, or its end is missing; use another copy")
    if hashlib.sha256(content).hexdigest().encode() != seal:
        raise CorruptFileError(f"{path} is damaged (its SHA-256 does not match); use another copy")
    arrays = read_npz(data, path)  # sealed or not: anybody can seal
    try:
        put_twins_back(arrays, len(data))
        return _join(json.loads(arrays.pop(PLAIN).tobytes()), "", arrays)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{path} is sealed, but not laid out as rlhf_control does ({error!r})") from None


def write_atomic(path: str | Path, content: bytes | memoryview, *, make_folder: bool = True) -> None:
    """Writes a file whole or not at all (temporary file, fsync, rename, fsync of the folder): a crash at any moment
    leaves the old file or the new. The folder is made when it is missing, unless `make_folder` is False."""
    path = Path(path)
    try:
        new = [folder for folder in path.parents if not folder.exists()]
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content, sync=True)
        for folder in (path.parent, *(folder.parent for folder in new)):
            sync(folder)
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make its folder writable"
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; {remedy} (what stood there before is untouched)"
        ) from error


def sync(path: str | Path) -> None:
    """Has a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes | memoryview, *, sync: bool = False) -> None:
    """Puts a new file in the place of whatever has that name: readers find the one or the other, whole. A link there
    is replaced itself. Raises OSError, and leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):  # of a process of this number that was killed
            temporary.unlink()
        with open(temporary, "xb") as file:  # follows no link
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def sha256(path: str | Path) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _split(node: Mapping[str, Any], prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The tree without its arrays, which go into `arrays` under their slash-separated paths."""
    plain: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping):
            plain[key] = _split(value, f"{prefix}{key}/", arrays)
        else:
            plain[key] = value
    return plain


def _join(plain: dict[str, Any], prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `_split`."""
    node: dict[str, Any] = {}
    for key, value in plain.items():
        node[key] = _join(value, f"{prefix}{key}/", arrays) if isinstance(value, dict) else value
    for name, array in arrays.items():
        if name.startswith(prefix) and "/" not in name[len(prefix) :]:
            node[name[len(prefix) :]] = array
    return node


def refuse_module(found: str, path: str | Path, env_id: str) -> None:
    """Raises UserError for an environment MODULE:ID that was found in a file: Gymnasium would import MODULE, and
    reading a file must not run code. Giving the same id as `env_id` says that the module is trusted."""
    module, _, _ = found.rpartition(":")
    if module and env_id != found:
        raise UserError(f"{path} is for {found} and would import {module}; if you trust it, give --env-id {found}")
