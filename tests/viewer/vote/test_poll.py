from pathlib import Path

import numpy as np

from rlhf_control.config.commands import LabelConfig
from rlhf_control.data import Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import write_status
from rlhf_control.viewer.vote.poll import look
from tests.conftest import random_segments
from tests.voting import a_status, make_run


def config(run: Path) -> LabelConfig:
    return LabelConfig(str(run), annotator="me", seed=0)


def test_no_store_yet(tmp_path: Path) -> None:
    assert look(tmp_path, config(tmp_path), None, True) is None


def test_what_is_asked_and_what_comes(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8)
    view = look(run, config(run), None, True)
    assert view is not None and view.question is not None
    assert len(view.ahead) == 5 and view.ahead[0] == view.question
    assert set(view.steps.values()) == {5} and view.states and view.news.lively
    write_status(run, a_status("finished"))
    later = look(run, config(run), view, True)
    assert later is not None and later.session is view.session and later.question == view.question
    assert later.news.status is not None and later.news.status.state == "finished"


def test_a_question_stays_first_even_if_its_lease_has_run_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    view = look(run, config(run), None, True)
    assert view is not None and view.question is not None
    store = FeedbackStore(run / "labels.sqlite")
    store.release(None, "me")
    assert store.claim("you", 60) is not None
    later = look(run, config(run), view, True)
    assert later is not None and later.ahead[0] == view.question and len(later.ahead) == 3


def test_looking_without_claiming(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    view = look(run, config(run), None, False)
    assert view is not None and view.question is None and len(view.ahead) == 3
    assert FeedbackStore(run / "labels.sqlite").tally("you").elsewhere == 0


def test_clips_without_states(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0)
    empty = look(run, config(run), None, True)
    assert empty is not None and not empty.states and empty.ahead == ()
    clips = random_segments(np.random.default_rng(0), 2, 5)
    bare = type(clips)(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    FeedbackStore(run / "labels.sqlite").ask([Query(0, 0, "u", bare)])
    view = look(run, config(run), empty, True)
    assert view is not None and not view.states and view.question is not None
