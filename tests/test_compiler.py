import ctypes
from pathlib import Path

import pytest

from rlhf_control import compiler

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
    assert compiler.load(write(tmp_path / "a.c", SOURCE)) is None
    assert compiler.load(tmp_path / "a.c") is None  # said once
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "install gcc" in err


def test_code_that_does_not_compile_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiler.load(write(tmp_path / "bad.c", "int f( {\n")) is None
    err = capsys.readouterr().err
    assert "bad.c did not compile" in err and err.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiler.load(write(tmp_path / "a.c", SOURCE)).twice(1) == 2


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
