"""A run's folder on its way between two machines that share no file system: as the contents of its files."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_control.errors import UserError
from rlhf_control.runs.files import read_own, sync, write_atomic
from rlhf_control.runs.run import LOCK

Signs = dict[str, tuple[int, int, int]]  # file -> inode, time of its last change, size


@dataclass(frozen=True)
class Parcel:
    """Holds a folder's files, but those that the other side has already."""

    names: tuple[str, ...]  # of all files, relative to the folder
    contents: dict[str, bytes] = field(default_factory=dict)  # of those that are new or changed


def pack(folder: Path, sent: Signs | None = None, wanted: Callable[[str], bool] = lambda name: True) -> Parcel:
    """Returns a folder's files; with `sent`, only those that changed since, which it then knows. The lock and
    unfinished files stay behind."""
    names, contents = [], {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        unfinished = path.name.startswith(".") and path.name.endswith(".tmp")
        if path.is_symlink() or not path.is_file() or path.name == LOCK or unfinished or not wanted(name):
            continue
        status = path.stat()
        sign = (status.st_ino, status.st_mtime_ns, status.st_size)
        if sent is None or sent.get(name) != sign:
            contents[name] = read_own(path)
            if sent is not None:
                sent[name] = sign
        names.append(name)
    return Parcel(tuple(names), contents)


def unpack(parcel: Parcel, folder: Path) -> None:
    """Makes the folder hold what the other side's does. It is put together beside the old one and takes its place when
    it is whole, so that a crash at any moment leaves the one or the other (`mend` finds it)."""
    mend(folder)
    arriving, leaving = _beside(folder)
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(parents=True)
    for name in parcel.names:
        target = arriving / name
        if not target.resolve().is_relative_to(arriving.resolve()):
            raise UserError(f"a worker sent a file {name}, which is outside its run's folder; it is left out")
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in parcel.contents:
            target.write_bytes(parcel.contents[name])
        elif (folder / name).is_file():
            os.link(folder / name, target)  # the old folder's name of it goes
    for path in arriving.rglob("*"):
        if path.is_file() and path.stat().st_nlink == 1:
            sync(path)
    for path in (*(path for path in arriving.rglob("*") if path.is_dir()), arriving):
        sync(path)
    if folder.exists():
        os.rename(folder, leaving)
    os.rename(arriving, folder)
    sync(folder.parent)
    shutil.rmtree(leaving, ignore_errors=True)


def place(parcel: Parcel, folder: Path) -> None:
    """Puts a parcel's files into a folder, beside what is there."""
    for name, content in parcel.contents.items():
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{name} is outside the folder that it was sent to; name files below the current folder")
        write_atomic(folder / name, content)


def mend(folder: Path) -> None:
    """Ends what a crash interrupted in `unpack`."""
    arriving, leaving = _beside(folder)
    if not folder.exists() and leaving.exists():
        os.rename(arriving if arriving.exists() else leaving, folder)
    shutil.rmtree(arriving, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(leaving, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.arriving"), folder.with_name(f".{folder.name}.leaving")
