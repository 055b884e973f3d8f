from dataclasses import replace

import pytest

from rlhf_control.viewer.kit.canvas import BACKGROUND, SIDE_B
from rlhf_control.viewer.vote.parts import Bar, Drag, Scene, clip_places
from rlhf_control.viewer.vote.question_page import draw_question, drop_target, group_places, strip_place
from tests.pages_kit import SIZES, a_canvas, check_places, check_words, pictures, watch_words

COMMON = {"undo", "restart", "back", "pause", "forward", "slower", "faster", "camera", "leave", "help", "seek"}
BAR = Bar(14, 100, "19 votes a minute, about 5 min left", "the run waits for 6 more answers", "good")


def a_scene(mode: str, n: int, **changed: object) -> Scene:
    scene = Scene(
        BAR, "Which one does it better?", mode, (3,) * n, enabled=True, undo=True, camera="track", share=0.4,
        last="Last: A is better",
    )  # fmt: skip
    return replace(scene, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("scene", "actions"),
    [
        (a_scene("comparison", 2), {"prefer 0", "prefer 1", "tie", "cannot tell"}),
        (a_scene("rating", 1), {"cannot tell", *(f"rate {i}" for i in range(1, 6))}),
        (a_scene("success", 1), {"cannot tell", "mark 0", "mark 1"}),
        (a_scene("rating", 1, levels=9), {"cannot tell", *(f"rate {i}" for i in range(1, 10))}),
        (a_scene("ranking", 3), {"place 0", "place 1", "place 2", "cannot tell"}),
        (
            a_scene("ranking", 6, order=((5,), (0, 3), (1,), (2,)), confirmable=True),
            {*(f"place {i}" for i in range(6)), *(f"card {i}" for i in (5, 0, 3, 1, 2))}
            | {"confirm", "tie switch", "cannot tell"},
        ),
    ],
)
def test_everything_can_be_clicked_on(
    size: tuple[int, int], scene: Scene, actions: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_canvas(size) as canvas:
        places, cut = watch_words(canvas, monkeypatch)
        draw_question(canvas, scene, pictures(len(scene.frames)))
        assert set(canvas.actions()) == actions | COMMON
        check_places(canvas)
        check_words(canvas, places)
        assert set(cut) <= {scene.bar.pace, scene.last}  # what one can do without


@pytest.mark.parametrize(("mode", "n"), [("comparison", 2), ("rating", 1), ("success", 1), ("ranking", 4)])
def test_nothing_can_be_answered_while_clips_are_drawn(mode: str, n: int) -> None:
    with a_canvas() as canvas:
        scene = a_scene(mode, n, frames=(None,) * n, enabled=False)
        draw_question(canvas, scene, [None] * n)
        assert set(canvas.actions()) == {"undo", "leave", "help"}
        canvas.clear()
        draw_question(canvas, replace(scene, problem="a clip is damaged", notice="a clip is damaged"), [None] * n)
        assert set(canvas.actions()) == {"undo", "leave", "help", "cannot tell"}


def test_the_last_answer_is_flashed_on_its_side() -> None:
    with a_canvas() as canvas:
        draw_question(canvas, a_scene("comparison", 2, flash=("prefer 1", 10)), pictures(2))
        left, right = clip_places(canvas, "comparison", 2)
        y = left[1] + left[3] / 2
        assert canvas.pixel(right[0] + right[2] + canvas.px(13), y) == SIDE_B
        assert canvas.pixel(left[0] - canvas.px(13), y) == BACKGROUND
        x, y, *_ = canvas.place_of("prefer 1")
        assert canvas.pixel(x + 20, y + 10) == SIDE_B


def test_only_a_complete_order_can_be_confirmed() -> None:
    for complete in (False, True):
        with a_canvas() as canvas:
            scene = a_scene("ranking", 3, order=((0,), (1,)), confirmable=complete)
            draw_question(canvas, scene, pictures(3))
            assert ("confirm" in set(canvas.actions())) == complete


def test_where_a_dragged_clip_would_go() -> None:
    with a_canvas() as canvas:
        order = ((0,), (1, 2))
        first, second = group_places(canvas, order, 4)
        x, y, width, height = strip_place(canvas)
        row = y + height / 2

        def target(at: float) -> tuple[int, bool] | None:
            return drop_target(canvas, order, Drag(3, at, row), 4)

        assert target(first[0] + 1) == (0, False) and target(first[0] + first[2] / 2) == (0, True)
        assert target(second[0] + 1) == (1, False) and target(second[0] + second[2] / 2) == (1, True)
        assert target(second[0] + second[2] - 1) == (2, False) and target(x + width - 1) == (2, False)
        assert drop_target(canvas, order, Drag(3, 10, 10), 4) is None
        assert drop_target(canvas, order, None, 4) is None
        assert drop_target(canvas, (), Drag(3, x + 5, row), 4) == (0, False)
        for drag in (Drag(3, first[0] + 30, row), Drag(3, second[0] + 1, row), Drag(3, x + width - 5, row)):
            draw_question(canvas, a_scene("ranking", 4, order=order, drag=drag), pictures(4))
        draw_question(canvas, a_scene("ranking", 2, order=((0,), (1,)), drag=Drag(1, x + width - 5, row)), pictures(2))


def test_the_strip_holds_every_clip() -> None:
    with a_canvas((640, 360)) as canvas:
        x, _, width, _ = strip_place(canvas)
        places = group_places(canvas, tuple((i,) for i in range(9)), 9)
        assert places[0][0] >= x and places[-1][0] + places[-1][2] <= x + width
