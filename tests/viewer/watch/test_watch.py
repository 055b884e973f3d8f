from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config.commands import WatchConfig
from rlhf_control.data import COMPARISON, RANKING, RATING, Array, Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import read_status
from rlhf_control.viewer.kit.window import Key, Mouse, Window
from rlhf_control.viewer.watch.history import read_history
from rlhf_control.viewer.watch.page import cells, draw_page, lasts
from rlhf_control.viewer.watch.predicted_rewards import Predicted, Predictor, save_predicted
from rlhf_control.viewer.watch.watch import KEYS, Room, curves, watch
from tests.conftest import random_segments
from tests.hands import after, play_script, post, pygame, tap
from tests.human_runs import make_run
from tests.pages_kit import SIZES, a_canvas, check_places, check_words, watch_words

KINDS = (COMPARISON, RANKING, RATING, COMPARISON)
LENGTH = 5  # of the clips


class Drawn:
    """Clips that are there at once, except for some."""

    def __init__(self, missing: Sequence[str] = ()) -> None:
        self.missing, self.asked_for = missing, ()

    def request(self, digests: Sequence[str], size: tuple[int, int], camera: int = 0) -> None:
        self.asked_for = tuple(digests)

    def get(self, digest: str, size: tuple[int, int], camera: int = 0) -> Array | None:
        shade = int(digest[:2], 16) // 2 + 60
        return None if digest in self.missing else np.full((5, 48, 48, 3), shade, np.uint8)

    def failure(self, digest: str) -> str:
        return "this clip is damaged" if digest in self.missing else ""

    def error(self) -> str:
        return ""

    def cameras(self) -> list[str]:
        return ["track", "top"]

    def close(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return make_run(tmp_path / "run", KINDS)


def predict(store: FeedbackStore) -> dict[str, Array]:
    """Writes made-up predictions for all clips."""
    digests = list(dict.fromkeys(digest for asked in store.asked() for digest in asked.clips))
    rewards = {d: np.linspace(i - 2, i, 5).astype(np.float32) for i, d in enumerate(digests)}
    save_predicted(store.path.parent, Predicted(7, "v", rewards))
    return rewards


@pytest.fixture
def room(store: FeedbackStore) -> Iterator[Room]:
    predict(store)
    run = store.path.parent
    status = read_status(run)
    assert status is not None
    with Window("test", (1280, 720)) as window, Predictor(run) as predictor:
        room = Room(window, store, read_history(store), Drawn(), status, predictor)
        room.go(0)
        yield room
        room.close()


def press(room: Room, *names: str) -> None:
    for name in names:
        room.handle(Key(name))
    assert room.step() or room.left


def test_stepping_through(room: Room) -> None:
    places = []
    for name in ("right", "right", "right", "right", "left", "home", "end", "up", "page down"):
        press(room, name)
        places.append(room.place)
    assert places == [1, 2, 3, 3, 2, 0, 3, 0, 3]
    press(room, "2", "return")
    assert room.place == 1 and room.page().number == 2
    press(room, "9", "9", "backspace", "backspace", "3", "return")
    assert room.place == 2
    press(room, "9", "9", "return")
    assert room.place == 2 and "no question with the number or key '99'" in room.notice
    press(room, "1", "escape")
    assert not room.left and room.typed == ""
    press(room, "escape")
    assert room.left


def test_the_clock(room: Room) -> None:
    press(room, "space", ".", ".")
    assert room.page().paused and room.page().frames == (2, 2)
    press(room, ",")
    assert room.page().frames == (1, 1)
    press(room, "]", "r")
    assert room.page().speed == 2.0 and room.page().frames == (0, 0)
    assert room.playback.length == pytest.approx(5 * 0.05)
    curve = cells(room.window, 2)[1].curve
    at = {"pos": (int(curve[0] + 0.7 * curve[2]), int(curve[1] + 20)), "button": 1}
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, at))
    room.step()
    assert room.page().frames == (3, 3)


def test_rewards_predicted_and_the_environments(room: Room, store: FeedbackStore) -> None:
    page, digests = room.page(), room.digests
    assert page.prediction == "" and page.model == "of iteration 7"
    np.testing.assert_array_equal(room.predicted(digests[1]), np.linspace(-1, 1, 5, dtype=np.float32))
    assert room.given(digests[0]) is None
    press(room, "t")
    np.testing.assert_array_equal(room.given(digests[0]), store.segments(digests)[digests[0]].env_reward)
    press(room, "c")
    assert room.page().camera == "top"


def test_help_and_its_end(room: Room) -> None:
    for key, text in (("h", "h"), ("/", "?")):
        room.handle(Key(key, text))
        room.step()
        assert room.help and room.window.hit(5, 5) == "close help"
        press(room, "right")  # does nothing else
        assert not room.help and room.place == 0
    room.do("help")
    room.handle(Mouse("down", 640, 300, 1))
    assert not room.help and not room.playback.paused
    assert {"h", "?", "f1"} <= KEYS.keys()


def test_signs_count_on_every_keyboard(room: Room) -> None:
    room.handle(Key("8", "["))  # German
    assert room.playback.speed == 0.5 and room.typed == ""


@pytest.mark.parametrize("size", SIZES)
def test_everything_has_its_place(room: Room, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's reward is called by its name: what people want is another thing."""
    words: list[str] = []
    for place in range(4):
        for predicted in (True, False):
            room.go(place)
            room.env_reward = True
            page, rewards = room.page(), curves(room.predicted if predicted else room.given, room.digests)
            with a_canvas(size) as canvas:
                places, cut = watch_words(canvas, monkeypatch)
                text = canvas.text
                monkeypatch.setattr(
                    canvas, "text", lambda s, *a, text=text, **o: (words.append(s), text(s, *a, **o))[1]
                )
                draw_page(canvas, page, room.pictures(), rewards, curves(room.given, room.digests))
                check_places(canvas)
                check_words(canvas, places)
                assert not set(cut) & {"Env reward", "Predict anew", "Previous", "Next", "Help", "Leave", "Prev", "Env"}
    assert not any("true" in word.lower() for word in words) and any(word.startswith("env") for word in words)


def test_votes_that_come_meanwhile_are_seen(room: Room, store: FeedbackStore) -> None:
    assert room.page().votes == ()
    store.vote(store.asked()[0].key, Feedback((1, 0), "anna", 1.5))
    room._looked = 0.0
    waited = after(10.0)
    while not room.page().votes and not waited():
        room.step()
        room.window.tick()
    assert [vote.answer for vote in room.page().votes] == ["B is better"]


def test_neighbours_are_drawn_ahead(room: Room) -> None:
    press(room, "right")
    history, clips = room.history, room.buffer.clips
    assert isinstance(clips, Drawn)
    assert clips.asked_for == (
        *history.asked[1].clips,
        *history.asked[2].clips,
        *history.asked[0].clips,
        *history.asked[3].clips,
    )


def test_what_cannot_be_shown_is_said(room: Room) -> None:
    room.buffer.clips.missing = room.digests[:1]  # type: ignore[attr-defined]
    room.buffer._frames.clear()
    room.step()
    assert room.page().problem == "this clip is damaged" and room.page().frames == (None, 0)
    assert room.predictor is not None
    room.predictor.known, room.predictor.error = None, "the reward has not been fitted yet"
    assert room.page().prediction == "the reward has not been fitted yet"
    room.predictor = None
    assert room.page().prediction == "not asked for (--reward)"
    room.step()


def test_every_kind_and_size_finds_its_place(room: Room, tmp_path: Path) -> None:
    for place in range(4):
        room.go(place)
        room.step()
        room.window.screenshot(tmp_path / f"{place}.png")
    for clips in range(1, 9):
        places = cells(room.window, clips)
        right = max(cell.picture[0] + cell.picture[2] for cell in places)
        low = max(cell.curve[1] + cell.curve[3] for cell in places)
        assert len(places) == clips and right <= 1280 - 340 and low <= 720 - 62


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    store = make_run(tmp_path / "empty", ())
    status = read_status(tmp_path / "empty")
    assert status is not None
    with Window("test") as window:
        room = Room(window, store, read_history(store), Drawn(), status, None)
        room.go(0)
        press(room, "right", "space", ".", "t", "c", "5", "return")
        assert room.asked is None and "no question" in room.notice
        room.close()


def test_the_whole_window(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(store)
    rooms: list[Room] = []
    make = Room.__init__
    monkeypatch.setattr(Room, "__init__", lambda self, *a: (rooms.append(self), make(self, *a))[1])

    def person() -> Iterator[None]:
        (room,) = rooms
        assert room.place == 1
        for wanted in (2, 3):
            post("right")
            post("right", up=True)
            while room.place != wanted:
                yield
        while None in room.page().frames:  # real clips, drawn by the process in the background
            yield
        tap("escape")
        while not room.left:
            yield

    play_script(monkeypatch, person())
    assert watch(WatchConfig(str(store.path.parent), query="2")) == 0


def test_what_is_wrong_is_said(tmp_path: Path, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="does not exist"):
        watch(WatchConfig(str(tmp_path)))
    with pytest.raises(UserError, match="no question with the number or key 'nothing'"):
        watch(WatchConfig(str(store.path.parent), query="nothing"))
    (store.path.parent / "status.json").unlink()
    with pytest.raises(UserError, match="does not say what environment"):
        watch(WatchConfig(str(store.path.parent)))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="watch needs a window"):
        watch(WatchConfig(str(store.path.parent)))


def test_a_clip_that_an_end_cuts_short_stands_dark_at_it(room: Room, store: FeedbackStore) -> None:
    whole = random_segments(np.random.default_rng(9), 2, LENGTH)
    store.ask([Query(1, 9, EARLY_END, Segments.stack([whole[0][-2:], whole[1]]))])
    room.history = read_history(store)
    digest = whole[0][-2:].digest()
    whole_clip = room.buffer.clips.get

    def get(wanted: str, size: tuple[int, int], camera: int = 0) -> Array | None:
        frames = whole_clip(wanted, size, camera)
        return frames[:2] if wanted == digest and frames is not None else frames

    room.buffer.clips.get = get  # type: ignore[method-assign]
    room.go(len(KINDS))
    room.playback.paused = True
    seen, places = [], [cell.picture for cell in cells(room.window, 2)]
    for frame, shown in ((0, 0), (1, 1), (2, 1), (4, 1)):
        room.playback.at = (frame + 0.5) * room.playback.length / LENGTH
        press(room)
        over = room.page().over
        press(room, ",", ".")  # which stops at the very beginning of a frame
        page = room.page()
        assert page.over == over == (frame >= 2, False)
        assert page.frames == (shown, frame) and (lasts(page, 0), lasts(page, 1)) == (2 / LENGTH, 1)
        seen.append([room.window._surface.get_at((int(x + 0.8 * w), int(y + 0.8 * h)))[0] for x, y, w, h in places])
    short, longer = zip(*seen, strict=True)
    assert short[0] == short[1] > short[2] == short[3] and len(set(longer)) == 1  # dark from its end on
    room.go(0)
    assert lasts(room.page(), 0) == 1
