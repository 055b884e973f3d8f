import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.config.commands import LabelConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.labelling import terminal
from rlhf_control.labelling.session import Session
from rlhf_control.runs.status import write_status
from rlhf_control.viewer.vote import label as label_module
from rlhf_control.viewer.vote.controller import VotingController
from rlhf_control.viewer.vote.label import label
from tests.screens import a_screen, on_a_screen, wait
from tests.voting import a_status, make_run


def leases(run: Path) -> int:
    """Questions that somebody has before them, as another annotator sees it."""
    return FeedbackStore(run / "labels.sqlite").tally("nobody").elsewhere


@contextmanager
def a_window_process(run: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`rlhf-control label RUN` in a process of its own."""
    command = [sys.executable, "-m", "rlhf_control", "label", str(run), "--annotator", "me", *options]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# -- before the window


def test_folders_without_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run's folder"):
        label(LabelConfig(str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"no labels\.sqlite"):
        label(LabelConfig(str(tmp_path)))
    write_status(tmp_path, a_status("finished"))
    with pytest.raises(UserError, match=r"no labels\.sqlite"):
        label(LabelConfig(str(tmp_path)))


def test_without_a_display_the_terminal_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[LabelConfig] = []
    monkeypatch.setattr(terminal, "label_in_terminal", lambda config: (asked.append(config), 7)[1])
    config = LabelConfig(str(make_run(tmp_path)))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert label(config) == 7
    assert "DISPLAY" in capsys.readouterr().out
    monkeypatch.setenv("SDL_VIDEODRIVER", "no such driver")  # a display that turns out not to work
    assert label(config) == 7
    assert "no window can be opened" in capsys.readouterr().out
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    wanted = LabelConfig(config.run, terminal=True)
    assert label(wanted) == 7 and asked == [config, config, wanted]
    assert capsys.readouterr().out == ""


def test_the_window_waits_for_no_framework() -> None:
    code = "import sys, rlhf_control.cli, rlhf_control.viewer.vote.label; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "gymnasium", "mujoco", "matplotlib", "stable_baselines3", "PIL", "imageio"} & set(out.split())


# -- the end


def test_a_summary_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    session = Session(FeedbackStore(run / "labels.sqlite"), "me")
    session.next()
    session.vote((0, 1), seconds=2.0)
    monkeypatch.setattr(VotingController, "step", lambda controller: False)
    monkeypatch.setattr(VotingController, "close", lambda controller: (controller.worker.close(1), session)[1])
    assert label(LabelConfig(str(run))) == 0
    assert "seconds a vote" in capsys.readouterr().out


def test_a_signal_is_noted_and_handlers_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in label_module.SIGNALS]
    monkeypatch.setattr(VotingController, "step", lambda controller: (os.kill(os.getpid(), signal.SIGTERM), True)[1])
    with pytest.raises(Stopped, match="every vote is saved") as stopped:
        label(LabelConfig(str(make_run(tmp_path))))
    assert stopped.value.exit_code == 143
    assert [signal.getsignal(number) for number in label_module.SIGNALS] == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_give_the_question_back(tmp_path: Path, number: int) -> None:
    run = make_run(tmp_path)
    with a_window_process(run, SDL_VIDEODRIVER="dummy") as process:
        wait(lambda: leases(run) == 1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    if number == signal.SIGKILL:  # it comes back when the lease has run out, or to the same person at once
        assert process.returncode == -9 and leases(run) == 1
        assert FeedbackStore(run / "labels.sqlite").claim("me", 60) is not None
    else:
        assert process.returncode == 128 + number and leases(run) == 0
        assert errors.splitlines()[-1].endswith("every vote is saved")


@pytest.mark.slow
def test_a_window_that_is_opened_before_the_first_question(tmp_path: Path) -> None:
    write_status(tmp_path, a_status("starting"))
    with a_window_process(tmp_path, SDL_VIDEODRIVER="dummy") as process:
        time.sleep(1.0)
        run = make_run(tmp_path)
        shutil.copy(run / "labels.sqlite", tmp_path / "new")
        os.replace(tmp_path / "new", tmp_path / "labels.sqlite")
        wait(lambda: leases(tmp_path) == 1)
        assert process.poll() is None


# -- as a person would: a real X server, real keys, a real mouse


class Hands:
    """Keys and clicks by xdotool."""

    def __init__(self, screen: dict[str, str], store: FeedbackStore) -> None:
        self.screen, self.store = screen, store

    def do(self, *command: Any) -> str:
        words = [str(word) for word in command]
        done = subprocess.run(["xdotool", *words], env={**os.environ, **self.screen}, capture_output=True, text=True)
        return done.stdout

    def vote(self, *command: Any) -> None:
        """Does it until a vote is there: before the pair is drawn, nothing counts."""
        before = len(self.store.votes())
        self.do(*command)
        last = time.monotonic()

        def come() -> bool:
            nonlocal last
            if time.monotonic() - last > 3.0:
                self.do(*command)
                last = time.monotonic()
            return len(self.store.votes()) > before

        wait(come)


@pytest.mark.slow
@on_a_screen
def test_voting_with_real_keys_and_a_real_mouse(tmp_path: Path) -> None:
    """Clips of simulator states, drawn by the real renderer in the background."""
    run = make_run(tmp_path, 8)
    store = FeedbackStore(run / "labels.sqlite")
    with a_screen() as (screen, _), a_window_process(run, "--seed", "0", **screen) as process:
        hands = Hands(screen, store)
        wait(lambda: hands.do("search", "--class", "rlhf-control"))
        wait(lambda: (run / "clips").is_dir() and len(list((run / "clips").iterdir())) > 2)  # the first pair is drawn
        hands.vote("key", "Left")
        hands.vote("key", "d")
        hands.vote("key", "Up")
        hands.vote("key", "s")
        hands.vote("key", "BackSpace")
        hands.vote("mousemove", 400, 350, "click", 1)  # the clip on the left
        hands.vote("mousemove", 980, 630, "click", 1)  # "B is better"
        hands.do("key", "Escape")
        wait(lambda: leases(run) == 0)
        hands.do("key", "Escape")
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    votes = [vote for vote in store.votes() if vote.feedback]
    better = [None if v.feedback.ranks in (None, (0, 0)) else v.shown.index(v.feedback.ranks.index(0)) for v in votes]  # type: ignore[union-attr]
    assert better == [0, 1, None, None, 0, 1] and votes[2].feedback.ranks == (0, 0)  # type: ignore[union-attr]
    assert len(in_force(store.votes())) == 5
    assert "votes" in output and "1 undone" in output


@pytest.mark.slow
@on_a_screen
def test_the_display_vanishes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    store = FeedbackStore(run / "labels.sqlite")
    with a_screen() as (screen, server), a_window_process(run, **screen) as process:
        hands = Hands(screen, store)
        hands.vote("key", "Left")
        wait(lambda: leases(run) == 1)
        server.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "the display is gone; every vote is saved" in errors
    assert leases(run) == 0 and len(store.votes()) == 1
