import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_control.compute import compiler

SOURCE = "int twice(int x) { return 2 * x; }\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiler.load.cache_clear()
    yield tmp_path / "cache"
    compiler.load.cache_clear()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_compiles_once_and_again_when_the_source_changes(tmp_path: Path, own_cache: Path) -> None:
    source = write(tmp_path / "a.c", SOURCE)
    code = compiler.load(source)
    assert isinstance(code, ctypes.CDLL) and code.twice(21) == 42
    (library,) = own_cache.rglob("*.so")
    made = library.stat().st_mtime_ns
    compiler.load.cache_clear()
    assert compiler.load(source).twice(4) == 8 and library.stat().st_mtime_ns == made
    compiler.load.cache_clear()
    assert compiler.load(write(source, SOURCE.replace("2 *", "3 *"))).twice(4) == 12
    assert len(list(own_cache.rglob("*.so"))) == 2 and not [p for p in own_cache.rglob("*") if "tmp" in p.name]


def test_definitions_make_another_library(tmp_path: Path) -> None:
    source = write(tmp_path / "a.c", "int n(void) { return N; }\n")
    assert compiler.load(source, "N=1").n() == 1 and compiler.load(source, "N=2").n() == 2


def test_without_a_compiler_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    assert compiler.load(write(tmp_path / "a.c", SOURCE)) is None
    assert compiler.load(tmp_path / "a.c") is None  # said once
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "install gcc" in err


def test_flags_in_cc_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{compiler.find_compiler()} -pthread '-DWORD=4 * 5'")
    assert compiler.load(write(tmp_path / "a.c", "int n(void) { return WORD; }\n")).n() == 20
    assert compiler.find_compiler() == os.environ["CC"].split()[0] and compiler.compiler_version() != "none"


@pytest.mark.parametrize("chosen", ["gc -pthread", "gcc 'unfinished"])
def test_a_misspelt_cc_is_said_once_and_passed_over(
    chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcc").symlink_to(shutil.which("cc") or shutil.which("gcc") or "clang")
    usual = tmp_path / "bin" / "gcc"
    monkeypatch.setenv("CC", chosen)
    monkeypatch.setenv("PATH", str(usual.parent))
    assert compiler.find_compiler() == compiler.find_compiler() == str(usual)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "$CC" in err and chosen.split()[0] in err and str(usual) in err


def test_code_that_does_not_compile_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiler.load(write(tmp_path / "bad.c", "int f( {\n")) is None
    err = capsys.readouterr().err
    assert "bad.c did not compile" in err and err.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiler.load(write(tmp_path / "a.c", SOURCE)).twice(1) == 2


def test_a_cache_that_others_can_write_to_is_not_trusted(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = write(tmp_path / "a.c", SOURCE), own_cache / "rlhf_control"
    assert compiler.load(source).twice(1) == 2 and compiler.cache_folder() == folder
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        compiler._say_once.cache_clear()
        assert compiler.cache_folder() != folder and str(folder) in capsys.readouterr().err
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert compiler.cache_folder() != folder
    monkeypatch.undo()
    folder.rename(own_cache / "elsewhere")
    folder.symlink_to(own_cache / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    assert compiler.cache_folder() != folder


def test_a_library_that_others_could_write_to_is_made_anew(tmp_path: Path, own_cache: Path) -> None:
    source = write(tmp_path / "a.c", SOURCE)
    compiler.load(source)
    (library,) = own_cache.rglob("*.so")
    library.chmod(0o770)
    made = library.stat().st_ino
    compiler.load.cache_clear()
    assert compiler.load(source).twice(2) == 4 and library.stat().st_ino != made


def test_the_folder_in_place_of_the_cache_is_one_a_process_and_removed_at_exit(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    write(tmp_path / "file", "")
    code = "from rlhf_control.compute.compiler import cache_folder as f; print(f(), f(), f().is_dir())"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    first, second, there = said.split()
    assert first == second and there == "True" and first.startswith(str(tmp_path / "temporary"))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_cut_library_is_made_anew(tmp_path: Path, own_cache: Path) -> None:
    source = write(tmp_path / "a.c", SOURCE)
    compiler.load(source)
    (library,) = own_cache.rglob("*.so")
    whole = library.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1]):
        library.unlink()  # the loaded one stays mapped
        library.write_bytes(damaged)
        compiler.load.cache_clear()
        assert compiler.load(source).twice(5) == 10
        assert library.read_bytes() != damaged
