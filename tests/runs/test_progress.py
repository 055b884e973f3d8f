import io
import sys

import pytest

from rlhf_control.runs.progress import ProgressLine, say, seconds_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROW = {"env_steps": 500, "steps_per_second": 1234.0, "labels": 20, "kl_start": 0.5, "score": None}


def test_quiet_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("run", 1000) as progress:
        progress.show(ROW)
        say("something")
    assert capsys.readouterr() == ("", "")


def test_plain_lines_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_CONTROL_PROGRESS", "1e-9")
    with ProgressLine("run", 1000) as progress:
        progress.show(ROW)
        progress.show({**ROW, "env_steps": 1000})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(" 50%  ETA 0 s  1,234 steps/s  20 labels") and lines[1].startswith("100%  ETA 0 s")


def test_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressLine("run", 1000) as progress:
        progress.show(ROW)
    for words in ("50%", "1,234 steps/s", "20 labels", "KL 0.50", "ETA"):
        assert words in terminal.getvalue()
    assert "score" not in terminal.getvalue()


def test_a_note_stands_in_for_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressLine("run", 1000) as progress:
        progress.note("waiting for 3 answers: runs/[a]")
    assert "waiting for 3 answers: runs/[a]" in terminal.getvalue()


def test_seconds() -> None:
    assert seconds_text(59.6) == "1 min 0 s" and seconds_text(12) == "12 s"
