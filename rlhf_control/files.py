"""Sealed files: nested dictionaries of arrays and plain values in one .npz, atomic to write and checked to read.

The file is an ordinary zip of .npy arrays (`numpy.load` reads it) whose zip comment holds the SHA-256 of every
byte before it. Nothing is pickled, so reading one cannot run code.
"""

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.errors import CorruptFileError, UserError

SEAL = b"rlhf_control sha256:"
DIGITS = 64
PLAIN = "plain.json"  # the entry that holds everything that is not an array


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes nested dicts of arrays, numbers, strings, None and lists of them. Afterwards either the new file is
    whole on the disk or the old one is untouched."""
    arrays: dict[str, np.ndarray] = {}
    plain = _split(state, "", arrays)
    arrays[PLAIN] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = SEAL + b"0" * DIGITS
    content = buffer.getvalue()[:-DIGITS]
    write_atomic(path, content + hashlib.sha256(content).hexdigest().encode())


def load_state(path: str | Path) -> dict[str, Any]:
    """What `save_state` wrote. Raises CorruptFileError if a single bit differs."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    content, seal = data[:-DIGITS], data[-DIGITS:]
    if not content.endswith(SEAL):
        raise CorruptFileError(f"{path} is not a file of rlhf_control, or its end is missing; use another copy")
    if hashlib.sha256(content).hexdigest().encode() != seal:
        raise CorruptFileError(f"{path} is damaged (its SHA-256 does not match); use another copy")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    plain = json.loads(arrays.pop(PLAIN).tobytes())
    return _join(plain, "", arrays)


def write_atomic(path: str | Path, content: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the folder: a crash at any moment leaves the old file or the new."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make its folder writable"
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; {remedy} (what stood there before is untouched)"
        ) from error


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
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
