import multiprocessing
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config import PPOConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.ppo import PPO
from rlhf_control.runs.files import ForeignFileError, load_state, open_own, read_own, save_state, write_atomic

STATE = {"a": np.arange(5), "b": {"c": np.ones((2, 3), np.float32), "empty": {}, "text": "x"}, "n": None, "l": [1, 2.5]}


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


def test_round_trip(tmp_path: Path) -> None:
    save_state(tmp_path / "s.npz", STATE)
    assert same(load_state(tmp_path / "s.npz"), STATE)


def test_what_stands_there_twice_is_stored_once(tmp_path: Path) -> None:
    """Bit for bit the same arrays come back, in their layout, each with memory of its own."""
    one = np.random.default_rng(0).random((200, 100))
    tree = {
        "a": {"w": one, "bits": one.view(np.int64)},
        "b": {"w": one.copy(), "t": np.asfortranarray(one)},
        "c": one[::2],
    }
    save_state(tmp_path / "s.npz", tree)
    assert (tmp_path / "s.npz").stat().st_size < 3.6 * one.nbytes  # bits, t and half of it beside w
    read = load_state(tmp_path / "s.npz")
    assert same(read, tree) and read["b"]["t"].flags.f_contiguous and not read["b"]["w"].flags.f_contiguous
    read["a"]["w"][:] = 0
    np.testing.assert_array_equal(read["b"]["w"], one)


def test_a_file_that_repeats_an_array_too_often_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "s.npz", {str(i): np.ones(200_000) for i in range(100)})
    with pytest.raises(CorruptFileError, match="repeats arrays too often"):
        monkeypatch.setattr("rlhf_control.runs.files.FREE", 0)
        monkeypatch.setattr("rlhf_control.runs.files.MOST", 1)
        load_state(tmp_path / "s.npz")


def test_pictures_are_compressed_where_that_helps(tmp_path: Path) -> None:
    """Bit for bit the same; noise, numbers and what is small stay as they are."""
    pictures = np.zeros((200, 84, 84, 4), np.uint8)
    pictures[:, 20:30, 20:30] = 200
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    for name, array, least, most in (
        ("pictures", pictures, 0, 0.05), ("rows apart", pictures[:, ::2, ::2], 0, 0.05), ("noise", noise, 1, 1.01),
        ("numbers", np.zeros(10**5), 1, 1.01), ("small", pictures[0], 1, 1.2),
    ):  # fmt: skip
        path = tmp_path / f"{name}.npz"
        save_state(path, {"a": array, "b": [1, "x"]})
        assert same(load_state(path), {"a": array, "b": [1, "x"]})
        assert least <= path.stat().st_size / array.nbytes <= most, name
        np.testing.assert_array_equal(np.load(path)["a"], array)


keys = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=4)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.text(max_size=5), st.floats(allow_nan=False),
    st.lists(st.integers(0, 9), max_size=4).map(np.array),
)  # fmt: skip


@given(
    st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8))
)
def test_any_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: dict) -> None:
    path = tmp_path_factory.mktemp("trees") / "t.npz"
    save_state(path, tree)
    assert same(load_state(path), tree)


def test_numpy_reads_it_without_pickle(tmp_path: Path) -> None:
    save_state(tmp_path / "s.npz", STATE)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["b/c"], np.ones((2, 3)))


def a_checkpoint(policy: Policy, folder: Path) -> Path:
    """A learner's, as a run leaves it."""
    path = folder / "checkpoint.npz"
    save_state(path, {"learner": PPO(policy, PPOConfig()).state(), "wall_seconds": 1.5})
    assert load_state(path)["wall_seconds"] == 1.5
    return path


def test_every_bit_flip_is_rejected_by_name(tmp_path: Path, cheetah_policy: Policy) -> None:
    path = a_checkpoint(cheetah_policy, tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 100, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"checkpoint\.npz"):
            load_state(path)


def test_every_truncation_is_rejected_by_name(tmp_path: Path, cheetah_policy: Policy) -> None:
    path = a_checkpoint(cheetah_policy, tmp_path)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError, match=r"checkpoint\.npz"):
            load_state(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_state(tmp_path / "none.npz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_keeps_the_old_file(tmp_path: Path) -> None:
    save_state(tmp_path / "s.npz", {"n": 1})
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot write"):
            save_state(tmp_path / "s.npz", {"n": 2})
        assert load_state(tmp_path / "s.npz") == {"n": 1}
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        save_state(tmp_path / "run" / "s.npz", {"n": 1})


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path: Path) -> None:
    """The limit on a file's size, which fails a write as a full disk does; in a process of its own."""
    save_state(tmp_path / "s.npz", {"n": 1})
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            save_state(tmp_path / "s.npz", {"n": 2, "big": np.zeros(100_000)})
        except UserError as error:
            os._exit(42 if "cannot write" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert load_state(tmp_path / "s.npz") == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_disk_full_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "s.npz", {"n": 1})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_state(tmp_path / "s.npz", {"n": 2})
    assert load_state(tmp_path / "s.npz") == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def save_for_ever(path: Path, ready: object) -> None:
    n = 0
    while True:
        save_state(path, {"n": n, "big": np.full(200_000, n)})
        ready.set()  # type: ignore[attr-defined]
        n += 1


@pytest.mark.slow
def test_kill_9_during_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(0)
    for _ in range(50):
        ready = context.Event()
        process = context.Process(target=save_for_ever, args=(tmp_path / "s.npz", ready))
        process.start()
        assert ready.wait(20)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        state = load_state(tmp_path / "s.npz")
        assert (state["big"] == state["n"]).all()


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab", "wb"])
@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder", "socket"])
def test_what_is_no_file_of_ours_is_neither_opened_nor_cut_nor_waited_for(tmp_path: Path, what: str, mode: Any) -> None:
    path, precious = tmp_path / "file", tmp_path / "precious"
    precious.write_bytes(b"work of years")
    if what == "link":
        path.symlink_to(precious)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "new")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with pytest.raises(ForeignFileError, match=rf"{path} is a .*; move it away") as refused:
        open_own(path, mode)
    assert isinstance(refused.value, OSError) and isinstance(refused.value, UserError)
    assert precious.read_bytes() == b"work of years" and not (tmp_path / "new").exists()


def test_our_own_files_open_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        open_own(path)
    for mode, written, content in (
        ("r+b", b"", b""),
        ("ab", b"one", b"one"),
        ("ab", b"two", b"onetwo"),
        ("wb", b"3", b"3"),
    ):
        with open_own(path, mode) as file:  # type: ignore[arg-type]
            file.write(written)
        assert path.read_bytes() == content
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_own(link, follow=True) == b"3"


def test_a_file_with_two_names_keeps_what_the_other_name_holds(tmp_path: Path) -> None:
    for mode, content in (("ab", b"rowsmore"), ("wb", b"more")):
        path, backup = tmp_path / mode, tmp_path / f"backup {mode}"
        path.write_bytes(b"rows")
        os.link(path, backup)
        with open_own(path, mode) as file:  # type: ignore[arg-type]
            file.write(b"more")
        assert backup.read_bytes() == b"rows" and path.read_bytes() == content


def test_a_temporary_name_that_is_taken_by_a_link_harms_nobody(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"work of years")
    (tmp_path / f".s.npz.{os.getpid()}.tmp").symlink_to(precious)
    save_state(tmp_path / "s.npz", STATE)
    assert precious.read_bytes() == b"work of years" and same(load_state(tmp_path / "s.npz"), STATE)


def test_new_folders_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else power loss takes what is in them."""
    synced: list[Path] = []
    monkeypatch.setattr("rlhf_control.runs.files.sync", lambda path: synced.append(Path(path)))
    write_atomic(tmp_path / "a" / "b" / "file", b"x")
    assert synced == [tmp_path / "a" / "b", tmp_path / "a", tmp_path]
