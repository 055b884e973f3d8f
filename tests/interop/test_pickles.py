"""What reads pickles as data, given harmless ones: nothing is made but records, arrays and plain values."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.interop.pickles import NUMPY, Record, as_array, read_pickle

ALLOWED = NUMPY | {"collections OrderedDict"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?", ">f4"])
def test_arrays_and_numbers_are_read(protocol: int, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    given = OrderedDict(
        a=array, b=np.asfortranarray(array), c=array[:1, 1:3], n=np.float64(2.5), i=3, s="x", e=array[:0]
    )
    found = read_pickle(pickle.dumps(given, protocol), ALLOWED)
    for name in "abcne":
        np.testing.assert_array_equal(as_array(found[name]), given[name])
    assert found["i"] == 3 and found["s"] == "x"


class MakesAFolder:
    """Unpickling one runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class Holder:
    """Has a state."""


def test_other_names_are_refused_by_name_and_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"asks for posix\.mkdir"):
        read_pickle(pickle.dumps(MakesAFolder(tmp_path / "ran")), ALLOWED)
    assert not (tmp_path / "ran").exists()


def test_an_allowed_object_becomes_a_record() -> None:
    held = Holder()
    held.answer = [1, np.ones(2)]  # type: ignore[attr-defined]
    found = read_pickle(pickle.dumps(held), ALLOWED | {f"{__name__} Holder"})
    assert isinstance(found, Record) and found.name.endswith("Holder") and not isinstance(found, Holder)
    assert found.state["answer"][0] == 1


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "pickle"),
        (b"\x80\x05r\x7f\x7f\x7f\x7f.", "claims"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pid\n.", "PERSID"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "bytearray8"),
        (b"\x80\x02" + b"\x85" * 20_001 + b".", "20,001 tuples"),
        (pickle.dumps(np.array([None], dtype=object), 4), "object"),
    ],
)
def test_claims_and_extensions_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        found = read_pickle(content, ALLOWED)
        as_array(found)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_damaged_pickles_are_value_errors(noise: bytes, at: int) -> None:
    whole = pickle.dumps(OrderedDict(a=np.arange(6.0)))
    content = whole[:at] + noise + whole[at + len(noise) :]
    try:
        found = read_pickle(content, ALLOWED)
    except ValueError:
        return
    assert isinstance(found, object)


def test_a_pickle_cannot_change_what_it_calls() -> None:
    """A state for the function itself, or for a class."""
    function = b"\x80\x02cnumpy._core.numeric\n_frombuffer\n}(X\x01\x00\x00\x00aK\x01ub."
    with pytest.raises(ValueError, match="function with a state"):
        read_pickle(function, ALLOWED)
    with pytest.raises(ValueError, match="argument"):
        read_pickle(b"\x80\x02cnumpy\ndtype\n}(X\x01\x00\x00\x00aK\x01ub.", ALLOWED)
