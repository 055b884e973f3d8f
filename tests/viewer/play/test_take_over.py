import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.data import CORRECTION
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.queries.takeovers import pilot_of
from rlhf_control.simulation.takeovers import Pilot
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.play import take_over as module
from rlhf_control.viewer.play.drive import DRIVING, OVER, READY
from rlhf_control.viewer.play.driver import Driver
from rlhf_control.viewer.play.gamepad import Gamepad
from rlhf_control.viewer.play.take_over import TakeOverDrive, TakeOverPage, take_over
from tests.hands import play_script, post, tap
from tests.pages_kit import SIZES, a_canvas, check_places, check_words, watch_words
from tests.queries.clips import policy_of
from tests.screens import a_screen, on_a_screen, wait
from tests.viewer.play.pads import Pad


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[TakeOverPage]:
    opened: list[TakeOverPage] = []
    make = TakeOverPage.__init__

    def remember(self: TakeOverPage, *arguments: Any) -> None:
        make(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(TakeOverPage, "__init__", remember)
    return opened


@pytest.fixture(scope="module")
def reacher() -> Pilot:
    return pilot_of(policy_of("Reacher-v5"), 0.2)


def shot(window: Window, name: str) -> None:
    if folder := os.environ.get("RLHF_CONTROL_SHOTS"):
        window.screenshot(Path(folder) / f"{name}.png")


def test_a_person_takes_over_gives_back_and_takes_back(
    tmp_path: Path, reacher: Pilot, pages: list[TakeOverPage], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By the key, and at once by a key that drives; each stretch is on the disk as soon as it is given back."""
    store = FeedbackStore(tmp_path / "labels.sqlite")

    def until(steps: int) -> Iterator[None]:
        while len(pages[0].drive.driver.steps) < steps:
            yield

    def person() -> Iterator[None]:
        yield
        page = pages[0]
        drive = page.drive
        assert drive.phase == READY
        tap("space")
        yield from until(4)
        assert drive.phase == DRIVING and not drive.taken
        tap("space")
        post("right")
        yield from until(10)
        post("right", up=True)
        tap("space")
        while not page.kept:
            yield
        assert len(store.votes()) == 1 and not drive.taken
        yield from until(14)
        post("up")  # which drives
        yield from until(18)
        assert drive.taken
        post("up", up=True)
        tap("space")
        while len(page.kept) < 2:
            yield
        tap("x")
        while len(page.kept) > 1:
            yield
        tap("escape")
        while not page.left:
            yield

    play_script(monkeypatch, person())
    assert take_over(reacher, store, "me", rate=30.0) == 0
    (first, second), in_use = store.asked(), in_force(store.votes())
    assert [asked.kind for asked in (first, second)] == [CORRECTION] * 2 and in_use.keys() == {(first.key, "me")}
    improved = store.query(first.key).segments[1]
    driven = np.flatnonzero(improved.action[:, 0] == 1)
    assert len(driven) >= 4 and not improved.action[driven, 1].any()
    assert f"1 correction in {store.path}" in capsys.readouterr().out


def make_page(tmp_path: Path, pilot: Pilot, pad: Any = None) -> TakeOverPage:
    page = TakeOverPage(
        TakeOverDrive(Driver(pilot.env_id, pilot.env), pilot), FeedbackStore(tmp_path / "l.sqlite"), "me"
    )
    page.drive.gamepad = Gamepad(pad)
    return page


def steps(page: TakeOverPage, n: int) -> None:
    before = len(page.drive.driver.steps)
    while len(page.drive.driver.steps) < before + n and page.drive.phase == DRIVING:
        page.advance(0.02)


def test_a_gamepad_takes_over_at_once_and_the_end_of_an_episode_gives_back(tmp_path: Path, reacher: Pilot) -> None:
    pad = Pad()
    page = make_page(tmp_path, reacher, pad)
    pad.buttons = (0,)
    page.advance(0.02)  # the policy acts
    pad.buttons = ()
    steps(page, 40)
    assert not page.drive.taken
    pad.axes[0] = -0.5
    steps(page, 30)
    assert page.drive.phase == OVER and not page.drive.taken and len(page.kept) == 1
    improved = page.store.query(page.kept[0]).segments[1]
    assert (improved.action[-8:] == np.float32([-0.5, 0.0])).all()
    page.do("switch")  # the next episode
    assert page.drive.phase == DRIVING and not page.drive.driver.steps
    page.drive.close()


def test_a_touch_is_no_correction_and_leaving_keeps_what_was_driven(tmp_path: Path, reacher: Pilot) -> None:
    page = make_page(tmp_path, reacher)
    page.do("switch")
    steps(page, 5)
    page.do("switch")
    steps(page, 1)
    page.do("switch")
    assert not page.kept
    page.do("take back")
    assert page.said.words == "Nothing to take back yet"
    page.do("switch")
    steps(page, 6)
    page.do("leave")
    assert len(page.kept) == 1 and page.left
    page.drive.close()


@pytest.mark.parametrize("env_id", ["Reacher-v5", "HalfCheetah-v5", "rlhf/Bricks-v0"])
def test_the_page_at_every_size(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pilot = pilot_of(policy_of(env_id), 0.5)
    page = make_page(tmp_path, pilot)
    page.do("switch")
    steps(page, 12)
    page.do("switch")
    steps(page, 9)
    for size in SIZES:
        with monkeypatch.context() as patch, a_canvas(size) as canvas:
            places, cut = watch_words(canvas, patch)
            page.draw(canvas)  # type: ignore[arg-type]
            check_places(canvas)
            check_words(canvas, places)
            assert not cut or size[0] <= 1000, (cut, size)
    assert page.drive.second is None or page.drive.cameras > 1  # without OpenGL all cameras draw the same
    with Window("test", (1280, 720)) as window:
        page.draw(window)
        shot(window, f"take_over_{env_id.replace('/', '-')}")
        places, (x, _, width, _) = module.layout(window, 2)
        assert places[0][2] == places[1][2] > 300 and x + width <= window.size[0]
    page.drive.close()


@pytest.mark.slow
@on_a_screen
def test_taking_over_with_real_keys(tmp_path: Path) -> None:
    policy_of("HalfCheetah-v5").save(tmp_path / "policy.npz")
    out = tmp_path / "mine.sqlite"
    with a_screen() as (screen, _):
        command = ["play", str(tmp_path / "policy.npz"), "--out", str(out), "--annotator", "me", "--fps", "10"]
        process = subprocess.Popen(
            [sys.executable, "-m", "rlhf_control", *command], env={**os.environ, **screen}, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

        def do(*words: str) -> str:
            ran = subprocess.run(["xdotool", *words], env={**os.environ, **screen}, capture_output=True, text=True)
            return ran.stdout

        wait(lambda: len(do("search", "--onlyvisible", "--class", ".*").split()) > 1, 60.0)  # than the root
        do("key", "space")
        do("keydown", "q")  # takes over
        time.sleep(1.0)
        do("keyup", "q")

        def kept() -> bool:
            do("key", "space")  # gives back, or takes over again
            time.sleep(0.5)
            return out.exists() and len(FeedbackStore(out, create=False).votes()) > 0

        wait(kept)
        do("key", "Escape")
        said, _ = process.communicate(timeout=60)
    store = FeedbackStore(out, create=False)
    (asked, *_), votes = store.asked(), store.votes()
    assert process.returncode == 0 and f"in {out}" in said and {vote.annotator for vote in votes} == {"me"}
    original, improved = (store.query(asked.key).segments[i] for i in (0, 1))
    assert (improved.action[:, 0] == 1).any() and not (original.action[:, 0] == 1).all()
