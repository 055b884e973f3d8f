import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.config.commands import PlayConfig
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.recordings import cut, load_recording
from rlhf_control.viewer.kit.window import Closed, Window
from rlhf_control.viewer.play.drive import OVER, READY, Drive
from rlhf_control.viewer.play.driver import Driver
from rlhf_control.viewer.play.play import CorrectionPage, PlayPage, file_name, play, record_correction
from tests.hands import after, play_script, post, pygame, tap
from tests.pages_kit import SIZES, a_canvas, check_places, check_words, watch_words


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pages that are opened."""
    opened: list[Any] = []
    for kind in (PlayPage, CorrectionPage):
        make = kind.__init__

        def remember(self: Any, *arguments: Any, make: Any = make) -> None:
            make(self, *arguments)
            opened.append(self)

        monkeypatch.setattr(kind, "__init__", remember)
    return opened


def test_a_person_drives_and_saves_two_episodes(
    tmp_path: Path, pages: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "cheetah.npz"

    def person() -> Iterator[None]:
        (page,) = pages
        for keys in ("q", "wt"):
            for key in keys:
                post(key)
            while len(page.drive.driver.steps) < 6:
                yield
            for key in keys:
                post(key, up=True)
            yield
            episodes = page.episodes
            tap("return")
            while page.episodes == episodes:
                yield
            assert out.exists()  # at once
            assert page.drive.phase == READY
        tap("escape")
        while not page.left:
            yield

    play_script(monkeypatch, person())
    assert play(PlayConfig("HalfCheetah-v5", out=str(out))) == 0
    recording = load_recording(out, "HalfCheetah-v5", (17, 6))
    first, second = recording.episodes()
    assert (recording.action[first][1:4] == [1, 0, 0, 0, 0, 0]).all()
    assert (recording.action[second][1:4] == [0, 1, 0, 1, 0, 0]).all()
    assert recording.state is not None and recording.state.shape == (len(recording), 18)
    assert cut(recording, 3).obs.shape[0] >= 4
    said = capsys.readouterr().out
    assert f"2 episodes, {len(recording)} steps, in {out}" in said and f"--demonstrations {out}" in said


def test_leaving_saves_what_was_driven(tmp_path: Path, pages: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "cart.npz"

    def person() -> Iterator[None]:
        (page,) = pages
        post("left")
        while not page.drive.driver.over:  # the pole falls
            yield
        # and closes the window

    play_script(monkeypatch, person())
    assert play(PlayConfig("CartPole-v1", out=str(out))) == 0
    recording = load_recording(out, "CartPole-v1")
    assert recording.terminated[-1] and recording.action[:, 0].all()


def test_nothing_is_saved_without_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    play_script(monkeypatch, iter(()))
    assert play(PlayConfig("CartPole-v1")) == 0
    assert capsys.readouterr().out == "nothing was saved\n" and not list(tmp_path.iterdir())


def test_buttons_do_what_keys_do(tmp_path: Path, pages: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def click(window: Window, action: str) -> None:
        places = [rect for rect, of in window._regions if of == action]
        x, y, width, height = places[0]
        at = {"pos": (int(x + width / 2), int(y + height / 2)), "button": 1}
        pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, at))

    windows: list[Window] = []
    present = Window.present
    monkeypatch.setattr(Window, "present", lambda self: (windows.append(self), present(self))[1])

    def person() -> Iterator[None]:
        (page,) = pages
        yield
        click(windows[-1], "slower")
        post("left")
        while not page.drive.driver.steps:
            yield
        assert page.drive.speed == 4
        click(windows[-1], "save")
        while not page.episodes:
            yield
        click(windows[-1], "leave")
        while not page.left:
            yield

    play_script(monkeypatch, person())
    assert play(PlayConfig("MountainCar-v0", out=str(tmp_path / "car.npz"), fps=20)) == 0
    assert len(load_recording(tmp_path / "car.npz")) >= 1


def page_of(tmp_path: Path, env_id: str = "MountainCar-v0") -> PlayPage:
    page = PlayPage(Drive(Driver(env_id, {})), tmp_path / "play.npz")
    page.do(page.drive.press("left"))
    page.advance(0.1)
    return page


def test_a_file_that_is_there_goes_on(tmp_path: Path) -> None:
    page_of(tmp_path).do("save")
    again = page_of(tmp_path)
    assert again.episodes == 1
    again.do("leave")
    assert again.left and len(load_recording(tmp_path / "play.npz").episodes()) == 2
    with pytest.raises(UserError, match="recorded in MountainCar-v0, not in CartPole-v1"):
        page_of(tmp_path, "CartPole-v1")


def test_a_full_disk_costs_nothing_that_was_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(tmp_path)
    steps = len(page.drive.driver.steps)

    def full(*_: Any) -> None:
        raise UserError("cannot write play.npz: no space left")

    with monkeypatch.context() as patched:
        patched.setattr("rlhf_control.viewer.play.play.save_recording", full)
        page.do("leave")
        assert not page.left and "no space left. Esc leaves without it" in page.said.words
        assert len(page.drive.driver.steps) == steps
    page.do("save")  # there is room again
    assert len(load_recording(tmp_path / "play.npz")) == steps and not page.unsaved
    monkeypatch.setattr("rlhf_control.viewer.play.play.save_recording", full)
    page.drive.press("left")
    page.advance(0.1)
    page.do("leave")
    page.do("leave")
    assert page.left


# -- corrections


@pytest.fixture
def start() -> np.ndarray:
    driver = Driver("HalfCheetah-v5", {}, seed=5)
    for _ in range(4):
        driver.step({"w"})
    state = driver.state()
    assert state is not None
    return state


def corrected(
    start: np.ndarray, person: Iterator[None], monkeypatch: pytest.MonkeyPatch, steps: int = 8, **more: Any
) -> Segments | None:
    play_script(monkeypatch, person)
    with Window("test") as window:
        return record_correction(window, "HalfCheetah-v5", {}, start, steps, **more)


def test_a_correction(start: np.ndarray, pages: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def person() -> Iterator[None]:
        (page,) = pages
        post("q")
        while page.drive.phase != OVER:
            yield
        tap("r")  # not good enough
        while page.drive.phase != READY:
            yield
        post("q", up=True)
        post("e")
        while not page.drive.whole:
            yield
        shown = after(0.3)  # again, and the original beside it
        while not shown():
            yield
        tap("return")
        while not page.left:
            yield

    original = np.zeros((4, 32, 32, 3), np.uint8)
    segment = corrected(start, person(), monkeypatch, original=original)
    assert segment is not None and segment.obs.shape == (8, 17) and segment.state is not None
    np.testing.assert_array_equal(segment.state[0], start)
    assert (segment.action[2:] == [0, 0, 1, 0, 0, 0]).all()


def test_a_correction_may_be_cancelled(start: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def person() -> Iterator[None]:
        tap("return")  # nothing to accept yet
        yield
        yield
        tap("escape")
        yield

    assert corrected(start, person(), monkeypatch) is None
    assert corrected(start, iter(()), monkeypatch, stop=lambda: True) is None
    with Window("test") as window, pytest.raises(UserError, match="do not fit the model"):
        record_correction(window, "HalfCheetah-v5", {}, start[:5], 8)


def test_closing_the_window_closes_all_of_it(start: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    play_script(monkeypatch, iter(()))
    with Window("test") as window:
        assert record_correction(window, "HalfCheetah-v5", {}, start, 8) is None
        assert Closed() in window.events()


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v5", "CartPole-v1", "Pendulum-v1"])
def test_everything_finds_its_place_on_any_screen(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(env_id, {})
    drive = Drive(driver)
    pages = [PlayPage(drive, tmp_path / "a folder" / "recording.npz"), CorrectionPage(drive, drive.picture[None])]
    for size in SIZES:
        for page in pages:
            with a_canvas(size) as canvas:
                places, cut = watch_words(canvas, monkeypatch)
                page.draw(canvas)  # type: ignore[arg-type]
                check_places(canvas)
                check_words(canvas, places)
                assert not cut, (size, type(page))
    drive.close()
    if driver.drawn_by_us:
        driver.close()


def test_file_names_and_displays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_name("envs:rlhf/Arm-v0") == "envs-rlhf-Arm-v0"
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="play needs a window"):
        play(PlayConfig("CartPole-v1"))


def test_driving_imports_no_torch() -> None:
    code = (
        "import sys, rlhf_control.viewer.play.play, rlhf_control.viewer.watch.watch; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
