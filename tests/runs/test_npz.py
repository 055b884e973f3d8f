import hashlib
import io
import json
import resource
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.export import import_labels, import_pairs
from rlhf_control.feedback.packing import MAGIC, unpack
from rlhf_control.feedback.recordings import load_recording
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.reward.model import RewardModel
from rlhf_control.runs.files import DIGITS, SEAL, load_state, save_state
from rlhf_control.runs.npz import FREE, inflate, read_npz

KINDS = [np.float32, np.float64, np.int64, np.bool_, np.uint8, np.dtype("S5"), np.dtype("U3"), np.dtype(">f4")]


@given(st.sampled_from(KINDS).flatmap(lambda d: arrays_of.arrays(d, arrays_of.array_shapes(min_dims=0, min_side=0))),
       st.booleans(), st.booleans())  # fmt: skip
def test_arrays_come_back(array: np.ndarray, fortran: bool, compressed: bool) -> None:
    array = np.asfortranarray(array) if fortran and array.ndim else array
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, allow_pickle=False, **{"a/b": array, "c": np.ones(2)})
    found = read_npz(file.getvalue(), "here")
    assert found.keys() == {"a/b", "c"} and found["a/b"].dtype == array.dtype and found["a/b"].shape == array.shape
    assert found["a/b"].tobytes() == array.tobytes() and found["a/b"].flags.writeable


def npy(shape: object, dtype: str = "<f4", body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(head).to_bytes(2, "little") + head + body


def packed(content: bytes, times: int = 1) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(times):
            archive.writestr(f"obs_{i}.npy", content)
    return file.getvalue()


ZEROS = bytes(2 * FREE)
CLAIMS = {
    "more numbers than bytes": packed(npy("(10**6,)")),
    "a terabyte": packed(npy(f"({2**38},)")),
    "numbers below none": packed(npy("(-1,)")),
    "numbers of no size": packed(npy(f"({2**40},)", "|S0")),
    "a pickle": packed(npy("(1,)", "|O", b"12345678")),
    "no array": packed(b"text"),
    "a long header": packed(npy("(" + "1," * 6000 + ")")),
    "another version": packed(npy("(0,)", version=b"\x09\x00")),
    "twice as much as is free": packed(npy(f"({2 * FREE},)", "|u1", ZEROS)),
    "nothing": b"",
    "half a zip": packed(npy("(2,)", body=bytes(8)))[:-10],
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_reader_gives_memory_to_a_claim(claim: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(CLAIMS[claim])
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "segments.npz").write_bytes(CLAIMS[claim])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    content = CLAIMS[claim] + SEAL
    if claim not in ("nothing", "half a zip"):  # anybody can seal
        with zipfile.ZipFile(file := io.BytesIO(CLAIMS[claim]), "a") as archive:
            archive.comment = SEAL + b"0" * DIGITS
        content = file.getvalue()[:-DIGITS]
    (tmp_path / "sealed.npz").write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    store = FeedbackStore(tmp_path / "store.sqlite")
    for read in (
        lambda: load_state(tmp_path / "sealed.npz"),
        lambda: read_npz(CLAIMS[claim], "here"),
        lambda: import_pairs(store, tmp_path / "x.npz"),
        lambda: import_labels(store, tmp_path / "export"),
        lambda: load_state(tmp_path / "x.npz"),
        lambda: load_policy(tmp_path / "sealed.npz"),
        lambda: load_recording(tmp_path / "sealed.npz"),
    ):
        with pytest.raises(UserError) as said:
            read()
        assert "\n" not in str(said.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < FREE / 1024


def test_what_shrinks_well_is_read_all_the_same() -> None:
    some = np.zeros(FREE // 8, np.float32)
    file = io.BytesIO()
    np.savez_compressed(file, a=some)
    assert len(file.getvalue()) < FREE / 200 and read_npz(file.getvalue(), "here")["a"].shape == some.shape


def test_a_changed_byte_is_seen(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.arange(100.0))
    content = bytearray(file.getvalue())
    content[400] ^= 1
    with pytest.raises(CorruptFileError, match="CRC"):
        read_npz(bytes(content), "here")


def test_inflating_stops_in_time() -> None:
    assert inflate(zlib.compress(b"abc"), 3) == b"abc"
    with pytest.raises(ValueError, match="more than 2"):
        inflate(zlib.compress(b"abc"), 2)
    with pytest.raises(zlib.error, match="incomplete"):
        inflate(zlib.compress(b"abc")[:-4])
    with pytest.raises(ValueError, match="unpack to more"):
        unpack(MAGIC + zlib.compress(ZEROS, 9))


def sealed(path: Path, state: dict) -> Path:
    save_state(path, state)
    return path


def test_sealed_files_claim_no_larger_networks_than_they_have(cheetah_policy: Policy, tmp_path: Path) -> None:
    state = cheetah_policy.state()
    for change in (
        {"net": {**state["net"], "hidden": [10**7, 10**7]}},
        {"spaces": {**state["spaces"], "obs_shape": [10**12]}},
        {"spaces": {**state["spaces"], "action_shape": [10**12]}},
        {"net": {**state["net"], "hidden": ["wide"]}},
        {"parameters": {}},
        {"spaces": []},
    ):
        with pytest.raises(CorruptFileError, match="not a policy"):
            load_policy(sealed(tmp_path / "p.npz", {**state, **change}))
    for state in ({}, {"kind": "recording"}, {"kind": 3}):
        for read in (load_policy, load_recording, RewardModel.load):
            with pytest.raises(CorruptFileError):
                read(sealed(tmp_path / "x.npz", state))


@pytest.mark.parametrize("name", ["actor.0.weight", "log_std", "obs_norm.var"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_are_finite(name: str, value: float, cheetah_policy: Policy, tmp_path: Path) -> None:
    state = cheetah_policy.state()
    state["parameters"][name].flat[0] = value
    with pytest.raises(CorruptFileError, match=f"{name} is not finite"):
        load_policy(sealed(tmp_path / "p.npz", state))


def test_a_seal_without_a_state(tmp_path: Path) -> None:
    save_state(tmp_path / "x.npz", {"a": 1})
    assert json.dumps(load_state(tmp_path / "x.npz")) == '{"a": 1}'
