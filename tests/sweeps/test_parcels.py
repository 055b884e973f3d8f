import os
from pathlib import Path

import pytest

from rlhf_control.errors import UserError
from rlhf_control.sweeps import parcels
from rlhf_control.sweeps.parcels import Parcel, Signs, mend, pack, place, unpack


def fill(folder: Path, **files: str) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", "/")).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_follows_the_other_by_what_changed(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    sent: Signs = {}
    fill(there, a="1", checkpoints_x="old", journal="j")
    (there / "run.lock").touch()
    (there / ".a.1.tmp").touch()
    first = pack(there, sent)
    assert set(first.names) == {"a", "checkpoints/x", "journal"} == set(first.contents)
    unpack(first, here)
    fill(there, a="12", checkpoints_y="new")
    (there / "checkpoints/x").unlink()
    (there / "journal").unlink()
    second = pack(there, sent)
    assert second.contents == {"a": b"12", "checkpoints/y": b"new"}
    unpack(second, here)
    unpack(pack(there, sent), here)  # nothing changed
    assert contents(here) == {"a": "12", "checkpoints/y": "new"}
    assert os.stat(here / "a").st_nlink == 1 and sorted(os.listdir(tmp_path)) == ["here", "there"]


@pytest.mark.parametrize("crash_before", [0, 1])
def test_a_crash_leaves_the_old_folder_or_the_new(
    tmp_path: Path, crash_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, renamed = tmp_path / "run", []
    unpack(Parcel(("a",), {"a": b"old"}), folder)

    def rename(old: Path, new: Path) -> None:
        if len(renamed) == crash_before:
            raise KeyboardInterrupt
        renamed.append(new)
        os.replace(old, new)

    with monkeypatch.context() as context:
        context.setattr(parcels.os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            unpack(Parcel(("a",), {"a": b"new"}), folder)
    mend(folder)
    assert contents(tmp_path) == {"run/a": ["old", "new"][crash_before]}


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    parcel = Parcel(("../x",), {"../x": b""})
    for put in (place, unpack):
        with pytest.raises(UserError, match="outside"):
            put(parcel, tmp_path / "run")
    assert not (tmp_path / "x").exists()
    place(Parcel(("a/b",), {"a/b": b"1"}), tmp_path / "run")
    assert contents(tmp_path) == {"run/a/b": "1"}
