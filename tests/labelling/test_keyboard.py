import os
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf_control.labelling.keyboard import Keyboard


@pytest.fixture
def typed() -> Iterator[tuple[int, Any]]:
    """(where to type, what reads it): a terminal."""
    master, slave = os.openpty()
    with os.fdopen(slave) as stream:
        yield master, stream
    os.close(master)


@pytest.fixture
def piped() -> Iterator[tuple[Any, Any]]:
    read, write = os.pipe()
    with os.fdopen(read) as stream, os.fdopen(write, "wb", 0) as end:
        yield end, stream


def test_keys_come_one_by_one(typed: tuple[int, Any]) -> None:
    write, stream = typed
    with Keyboard(stream) as keyboard:
        assert keyboard.single and keyboard.read(0.0) is None
        os.write(write, "aD\x1b[D\x1bOC\x7f\r7é".encode())
        found = [keyboard.read(1.0) for _ in range(8)]
        assert found == ["a", "d", "left", "right", "backspace", "enter", "7", "é"]
        os.write(write, b"\x1b[3~\x1b[1;5Dx")  # Delete and Ctrl-Left leave nothing behind, and are no Esc
        assert [keyboard.read(1.0) for _ in range(3)] == ["that key", "that key", "x"]
        os.write(write, b"\x1b")
        assert keyboard.read(1.0) == "escape"
        assert keyboard.read(0.0) is None and not keyboard.ended


def test_what_was_typed_too_early_is_forgotten(typed: tuple[int, Any], piped: tuple[Any, Any]) -> None:
    with Keyboard(typed[1]) as keyboard:
        os.write(typed[0], b"aaa")
        keyboard.forget()
        assert keyboard.read(0.05) is None
    with Keyboard(piped[1]) as keyboard:
        piped[0].write(b"a\nd\n")
        assert keyboard.read(1.0) == "a"
        keyboard.forget()
        assert keyboard.read(1.0) == "d"  # lines are not typed by mistake


def test_the_terminal_is_as_before(typed: tuple[int, Any]) -> None:
    import termios

    before = termios.tcgetattr(typed[1].fileno())
    with Keyboard(typed[1]):
        assert termios.tcgetattr(typed[1].fileno()) != before
    assert termios.tcgetattr(typed[1].fileno()) == before


def test_lines(piped: tuple[Any, Any]) -> None:
    end, stream = piped
    with Keyboard(stream) as keyboard:
        assert not keyboard.single and keyboard.read(0.0) is None and not keyboard.ended
        end.write(b"A\n\n 312 \nq")
        assert [keyboard.read(1.0) for _ in range(3)] == ["a", "", "312"]
        assert keyboard.read(0.0) is None and not keyboard.ended  # not a whole line yet
        end.close()
        assert keyboard.read(1.0) == "q"
        assert keyboard.read(1.0) is None and keyboard.ended


def test_a_terminal_that_goes_ends_the_input() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave) as stream, Keyboard(stream) as keyboard:
        os.close(master)
        assert keyboard.read(1.0) is None and keyboard.ended
