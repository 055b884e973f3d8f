"""Weights in torch's files, by torch's own weights-only reader, once what the archive claims fits its size."""

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_control.errors import UserError
from rlhf_control.nets.policy import check_weights
from rlhf_control.runs.npz import check_claims

UNREADABLE = (  # what readers raise on files that are damaged, foreign or hostile
    OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, IndexError, OverflowError,
    MemoryError, RecursionError, NotImplementedError, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


def read_torch(content: bytes) -> Any:
    """Return what torch.save wrote: tensors and plain values in dicts and lists. Raises one of UNREADABLE."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_claims(archive, len(content))
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    for tensor in _tensors(found):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError("a tensor that is no plain array")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError("a tensor claims more numbers than it has")
    return found


def plain_weights(found: Any) -> dict[str, Tensor]:
    """Return a state dict of float tensors, each finite, as float32. Raises ValueError for anything else."""
    if not isinstance(found, Mapping) or not found:
        raise ValueError("it holds no weights")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not tensor.dtype.is_floating_point:
            raise ValueError(f"{str(name)[:80]!r} is no array of weights")
    check_weights(found)
    return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}


def _tensors(found: Any, depth: int = 0) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    if depth > 10 or not isinstance(found, Mapping | list | tuple):
        return []
    inner = found.values() if isinstance(found, Mapping) else found
    return [tensor for value in inner for tensor in _tensors(value, depth + 1)]


def cannot_read(path: str | Path, what: str, error: BaseException) -> UserError:
    """Return the one line for a file that is not what it seems: without torch's advice to load it unsafely, and with
    the name that it asks for."""
    text = str(error)
    if named := re.search(r"GLOBAL ([\w.]+)", text):
        return UserError(f"cannot read {path} as {what}: it asks for {named[1]}, which no weights need")
    lines = [line for line in text.splitlines() if line.strip() and "weights_only" not in line]
    return UserError(f"cannot read {path} as {what}: {lines[0] if lines else type(error).__name__}")
