import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.viewer.kit.canvas import BACKGROUND, GOOD, RAISED, SIDE_A, TEXT
from rlhf_control.viewer.vote import parts
from rlhf_control.viewer.vote.parts import (
    Bar,
    Scene,
    answers_place,
    clip_places,
    draw_bar,
    draw_clip,
    draw_controls,
    draw_title,
    draw_track,
    lit,
    squares,
    title_height,
    track_place,
)
from tests.pages_kit import SIZES, a_canvas, check_words, colors, overlap, pictures, watch_words


@given(st.integers(1, 9), st.floats(50, 3000), st.floats(50, 3000), st.floats(0, 10))
def test_squares_are_equal_apart_and_inside(n: int, width: float, height: float, gap: float) -> None:
    places = squares((10, 20, width, height), n, gap)
    sides = {round(side, 6) for place in places for side in place[2:]}
    assert len(places) == n and len(sides) == 1
    if sides == {8.0}:  # there is no room
        return
    for i, (x, y, w, h) in enumerate(places):
        assert x >= 9.9 and y >= 19.9 and x + w <= 10.1 + width and y + h <= 20.1 + height
        assert not any(overlap(places[i], other) for other in places[:i])


def test_squares_use_the_room() -> None:
    assert [p[2] for p in squares((0, 0, 200, 100), 2, 0)] == [100, 100]
    assert squares((0, 0, 300, 200), 6, 0)[5] == (200, 100, 100, 100)
    (first, *_, last) = squares((0, 0, 200, 200), 3, 0)
    assert first[:2] == (0, 0) and last[:2] == (50, 100)  # the last row stands in the middle


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["comparison", "ranking", "rating", "success"])
def test_nothing_stands_on_anything_else(size: tuple[int, int], how: str) -> None:
    n = {"comparison": 2, "ranking": 4, "rating": 1, "success": 1}[how]
    with a_canvas(size) as canvas:
        places = [*clip_places(canvas, how, n), track_place(canvas, how, n), answers_place(canvas, how, n)]
        for i, place in enumerate(places):
            assert place[0] >= 0 and place[0] + place[2] <= size[0] and place[1] + place[3] <= size[1]
            assert not any(overlap(place, other) for other in places[:i])


def test_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_canvas() as canvas:
        draw_bar(canvas, Bar(25, 100, "19 votes a minute", "training", "busy"))
        assert canvas.pixel(300, 1) == GOOD and canvas.pixel(340, 1) != GOOD
        texts: list[tuple[str, float, float]] = []
        original = canvas.text

        def text(string: str, *arguments: object, **options: object) -> object:
            place = original(string, *arguments, **options)  # type: ignore[arg-type]
            texts.append((string, place[0], place[0] + place[2]))
            return place

        monkeypatch.setattr(canvas, "text", text)
        draw_bar(canvas, Bar(99_000, 100_000, "words " * 40, "other words " * 20, "bad"))
        (_, _, a), (_, b, c), (_, d, e) = sorted(texts, key=lambda t: t[1])
        assert a <= b <= c <= d <= e <= canvas.size[0]  # the long lines are shortened, and stay apart
        draw_bar(canvas, Bar())


@pytest.mark.parametrize("size", SIZES)
def test_a_long_question_stays_above_the_clips(size: tuple[int, int]) -> None:
    for question in ("Which one?", "Which of these two runs forward with less effort? " * 3, "x" * 400):
        with a_canvas(size) as canvas:
            draw_title(canvas, question, "")
            if len(question) < 200:  # a word of four hundred letters is nobody's question, but it must not crash
                assert colors(canvas, top=canvas.px(52) + title_height(canvas) + 1) == 1


def test_the_time_line_shows_how_far_the_clips_are() -> None:
    with a_canvas() as canvas:
        scene = Scene(frames=(0, 0), enabled=True, share=0.5)
        draw_track(canvas, scene)
        left, y, width, height = track_place(canvas, "comparison", 2)
        row = y + height / 2
        assert canvas.pixel(left + width * 0.4, row) != canvas.pixel(left + width * 0.6, row)
        assert canvas.hit(left + 5, row) == "seek"
        canvas.clear()
        draw_track(canvas, Scene())
        assert canvas.hit(left + 5, row) == ""  # there is nothing to seek in


def test_the_controls() -> None:
    with a_canvas() as canvas:
        draw_controls(canvas, Scene(frames=(0, 0), enabled=True, undo=True, camera="track", last="Last: A"))
        actions = set(canvas.actions())
        assert actions == {
            "undo", "restart", "back", "pause", "forward", "slower", "faster", "camera", "leave", "help",
        }  # fmt: skip
        canvas.clear()
        draw_controls(canvas, Scene())
        assert canvas.actions() == ["leave", "help"]


def test_a_clip_and_its_placeholder() -> None:
    place = (100, 100, 200, 200)
    with a_canvas() as canvas:
        scene = Scene(frames=(0, 0), enabled=True, hover="prefer 0")
        draw_clip(canvas, scene, 0, place, pictures(1)[0], SIDE_A)
        assert canvas.pixel(98, 200) == SIDE_A and canvas.pixel(200, 200) == (90, 90, 90)
        assert canvas.hit(200, 200) == "prefer 0"
        for waiting in (Scene(), Scene(problem="broken")):
            canvas.clear()
            draw_clip(canvas, waiting, 0, place, None, SIDE_A)
            assert canvas.hit(200, 200) == "" and canvas.pixel(200, 120) == parts.PANEL


@pytest.mark.parametrize("size", SIZES)
def test_a_notice_covers_neither_clips_nor_answers(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for notice in (
        "Not counted: the last answer is still on its way.",
        "Not saved: the disk is full; free some space.",
    ):
        with a_canvas(size) as canvas:
            places, cut = watch_words(canvas, monkeypatch)
            draw_title(canvas, "Which one runs backward better?", notice)
            assert colors(canvas) > 3 and cut == []
            check_words(canvas, places)
            assert colors(canvas, top=canvas.px(52) + title_height(canvas) + 1) == 1
            if size == (1280, 720):
                assert len(places) == 2  # the question stays


def test_a_button_lights_up_after_its_answer() -> None:
    assert lit(Scene(), "tie", TEXT, RAISED) == (RAISED, TEXT)
    assert lit(Scene(flash=("tie", 10)), "tie", SIDE_A, RAISED) == (SIDE_A, BACKGROUND)
    assert lit(Scene(flash=("tie", 10)), "prefer 0", SIDE_A, RAISED) == (RAISED, TEXT)
