import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from rlhf_control.compute.processes import module_path, python, safe_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules that bear the names of dependencies, and one that is the user's own."""
    for name in ("numpy", "pygame", "mujoco", "random", "tempfile", "json"):
        (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    (tmp_path / "my_environment.py").write_text("NAME = 'mine'")
    monkeypatch.chdir(tmp_path)
    return tmp_path


CODE = "import json, numpy, pygame, mujoco, random, tempfile, rlhf_control"


@pytest.mark.parametrize("first", ["", ".", "absolute"])
def test_a_module_of_the_working_folder_is_not_taken_for_a_dependency(
    here: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(here) if first == "absolute" else first)
    done = subprocess.run(
        python(f"{CODE}, my_environment; print(my_environment.NAME, *sys.argv[1:])", "a", "b"),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.endswith("mine a b\n"), done.stderr
    assert not (here / "ran").exists()


def test_the_working_folder_is_on_the_path_only_if_it_was(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p and Path(p) != here])
    assert str(here) not in module_path()
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert module_path()[-1] == str(here) and "" not in module_path()


def find_module() -> None:
    import json  # noqa: F401
    import tempfile  # noqa: F401

    import numpy  # noqa: F401


def test_spawned_processes_are_as_safe(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("")
    path = list(sys.path)
    with safe_path():
        process = get_context("spawn").Process(target=find_module)
        process.start()
    assert sys.path == path and "PYTHONSAFEPATH" not in os.environ
    process.join()
    assert process.exitcode == 0 and not (here / "ran").exists()
