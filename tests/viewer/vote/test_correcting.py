from pathlib import Path

import numpy as np
import pytest

from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from tests.conftest import random_segments
from tests.voting import at_the_window, make_run


def test_a_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_control.viewer.play import play

    improved = random_segments(np.random.default_rng(3), 5)
    outcomes: list[object] = [improved, None, UserError("it has no keys")]
    starts = []

    def record_correction(
        window: object, env_id: str, env: object, start: np.ndarray, steps: int, **_: object
    ) -> object:
        starts.append(start)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(play, "record_correction", record_correction)
    run = make_run(tmp_path)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        person.ready()
        question = person.question
        person.press("k")
        person.press("space")  # neither
        assert not person.state.choosing and starts == []
        for said in ("Kept", "", "no keys"):
            person.press("k")
            person.press("right")
            assert said in person.state.notice[0]
        assert person.question == question and len(person.votes()) == 1
        person.press("left")  # the clips have only just come back
        assert "Not counted" in person.state.notice[0]
    asked = store.asked()[-1]
    assert asked.kind == "correction" and asked.clips == (question.clips[1], improved.digest())
    assert np.array_equal(starts[0], store.segments([question.clips[1]])[question.clips[1]].state[0])  # type: ignore[index]
