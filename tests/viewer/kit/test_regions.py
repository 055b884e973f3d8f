import pytest

from rlhf_control.viewer.kit.canvas import Canvas


def test_buttons_are_found_from_above(canvas: Canvas) -> None:
    canvas.button((0, 0, 100, 40), "Vote", "vote", hint="V")
    canvas.button((50, 0, 100, 40), "No", "no")
    canvas.button((200, 0, 100, 40), "Never", "never", enabled=False)
    canvas.region((0, 100, 10, 10), "seek")
    assert [canvas.hit(x, 20) for x in (10, 60, 210)] == ["vote", "no", ""] and canvas.hit(5, 105) == "seek"
    assert canvas.place_of("seek") == (0, 100, 10, 10)
    canvas.clear()
    assert canvas.hit(10, 20) == ""
    with pytest.raises(KeyError):
        canvas.place_of("vote")
