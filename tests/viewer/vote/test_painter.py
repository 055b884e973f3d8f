from pathlib import Path

import pytest

from rlhf_control.data import GROUPS, RANKING, RATING
from tests.voting import at_the_window, make_run


def test_nothing_is_drawn_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair that is paused costs nothing: the training beside it has the processor."""
    with at_the_window(make_run(tmp_path)) as person:
        person.ready()
        drawn: list[int] = []
        present = person.window.present
        monkeypatch.setattr(person.window, "present", lambda: (drawn.append(1), present()))
        person.rest(1.2)
        assert 3 <= len(drawn) <= 50  # once a frame of the clips, not sixty times a second
        person.press("space")
        person.rest(0.7)
        drawn.clear()
        person.rest(0.4)
        assert drawn == []
        person.window.stale = True
        person.controller.step()
        assert drawn == [1]


@pytest.mark.parametrize(("kind", "clips"), [(RANKING, 3), (RATING, 1), (GROUPS, 6)])
def test_a_question_without_words_has_some(tmp_path: Path, kind: str, clips: int) -> None:
    with at_the_window(make_run(tmp_path, 2, kind, clips)) as person:
        person.ready()
        appearance = person.controller.painter.drawn
        assert appearance is not None and not isinstance(appearance.what, tuple) and appearance.what.question
        assert person.controller.painter.clip_size(person.question) == person.state.buffer.size  # type: ignore[union-attr]
