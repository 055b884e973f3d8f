"""Pickles of other programs, read as data: what they name becomes an inert record, so that nothing of them is run.

Which names they may have is an allow list of whoever reads one; all else is refused by name before anything is made.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from rlhf_control.data import Array

NUMPY = frozenset(  # how arrays and their numbers are pickled, by NumPy 1 and 2
    f"{module} {name}"
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{core}.numeric", "_frombuffer"), (f"{core}.multiarray", "_reconstruct"), (f"{core}.multiarray", "scalar"),
    )
) | {"numpy dtype", "numpy ndarray"}  # fmt: skip
REFUSED = ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER")
PLAIN = "biuf"  # kinds of numbers
MOST_TUPLES = 20_000  # which bounds how deep they lie in each other, too
DAMAGED = (
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, UnicodeError,
    OverflowError, MemoryError, RecursionError, ImportError,
)  # fmt: skip


class Record:
    """Stands for an object of another program: its name, what it was made of and its state."""

    name = ""
    args: tuple[Any, ...]
    state: Any

    def __init__(self, *args: Any) -> None: ...

    def __new__(cls, *args: Any) -> "Record":
        made = super().__new__(cls)
        made.args, made.state = args, {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class NumberType(Record):
    """Stands for a dtype of plain numbers."""

    def dtype(self) -> np.dtype:
        """Return it. Raises ValueError for any other."""
        order: Any = self.state[1] if self.state else "="
        found = np.dtype(str(self.args[0])).newbyteorder(order)
        if found.kind not in PLAIN:
            raise ValueError(f"an array of {found}")
        return found


class PickledArray(Record):
    """Stands for an array whose state comes after it."""


class Function:
    """Stands for a function, and takes no state: a pickle cannot change what it calls."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function with a state")


def frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Return an array as `numpy._core.numeric._frombuffer` would, a copy."""
    kind = _dtype(dtype)
    return np.frombuffer(bytes(content), kind).reshape(shape, order="F" if order == "F" else "C").copy()


def scalar(dtype: Any, content: Any) -> Array:
    """Return a number as an array of no dimension."""
    return np.frombuffer(bytes(content), _dtype(dtype)).reshape(()).copy()


def as_array(value: Any) -> Array:
    """Return what a pickle holds as an array or a number. Raises ValueError for anything else."""
    if isinstance(value, PickledArray):
        _, shape, dtype, fortran, content = value.state
        return frombuffer(content, dtype, shape, "F" if fortran else "C")
    if isinstance(value, np.ndarray | int | float):
        return np.asarray(value)
    raise ValueError(f"{type(value).__name__} where numbers belong")


def _dtype(dtype: Any) -> np.dtype:
    if not isinstance(dtype, NumberType):
        raise ValueError("an array of no plain numbers")
    return dtype.dtype()


def read_pickle(content: bytes, allowed: Collection[str]) -> Any:
    """Return what a pickle holds, with a Record for every object. `allowed` are names, as "module name".

    Raises ValueError for another name, and for what is damaged.
    """
    try:
        _check(content)
        return _Reader(content, allowed).load()
    except DAMAGED as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from None


def _check(content: bytes) -> None:
    """Raises ValueError for what would take memory beyond the pickle's own, or ask the program that reads it."""
    tuples = 0
    for code, argument, _ in pickletools.genops(content):
        tuples += "TUPLE" in code.name
        if code.name in REFUSED:
            raise ValueError(f"a pickle with {code.name}, which no array needs")
        if "PUT" in code.name and not 0 <= int(argument or 0) <= len(content):
            raise ValueError(f"a pickle that claims {argument} objects")
    if tuples > MOST_TUPLES:
        raise ValueError(f"a pickle of {tuples:,} tuples")


class _Reader(pickle.Unpickler):
    """Makes records of what a pickle names."""

    def __init__(self, content: bytes, allowed: Collection[str]) -> None:
        super().__init__(io.BytesIO(content))
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name. Raises ValueError for one that is not allowed."""
        full = f"{module} {name}"
        if full not in self.allowed:
            raise ValueError(f"it asks for {module}.{name}, which is not among what such a file needs")
        if full == "collections OrderedDict":
            return OrderedDict
        if full in NUMPY:
            functions = {"_frombuffer": Function(frombuffer), "scalar": Function(scalar)}
            return {**functions, "dtype": NumberType, "_reconstruct": PickledArray}.get(name, Record)
        return type("Record", (Record,), {"name": f"{module}.{name}"})
