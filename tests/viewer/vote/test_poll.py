from pathlib import Path

import numpy as np

from rlhf_control.config.commands import LabelConfig
from rlhf_control.data import Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import write_status
from rlhf_control.viewer.vote.poll import poll
from tests.conftest import random_segments
from tests.voting import a_status, make_run


def config(run: Path) -> LabelConfig:
    return LabelConfig(str(run), annotator="me", seed=0)


def test_no_store_yet(tmp_path: Path) -> None:
    assert poll(tmp_path, config(tmp_path), None, True) is None


def test_what_is_asked_and_what_comes(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8)
    polled = poll(run, config(run), None, True)
    assert polled is not None and polled.question is not None
    assert len(polled.ahead) == 5 and polled.ahead[0] == polled.question
    assert set(polled.steps.values()) == {5} and polled.states and polled.news.lively
    write_status(run, a_status("finished"))
    later = poll(run, config(run), polled, True)
    assert later is not None and later.session is polled.session and later.question == polled.question
    assert later.news.status is not None and later.news.status.state == "finished"


def test_a_question_stays_first_even_if_its_lease_has_run_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    polled = poll(run, config(run), None, True)
    assert polled is not None and polled.question is not None
    store = FeedbackStore(run / "labels.sqlite")
    store.release(None, "me")
    assert store.claim("you", 60) is not None
    later = poll(run, config(run), polled, True)
    assert later is not None and later.ahead[0] == polled.question and len(later.ahead) == 3


def test_looking_without_claiming(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    polled = poll(run, config(run), None, False)
    assert polled is not None and polled.question is None and len(polled.ahead) == 3
    assert FeedbackStore(run / "labels.sqlite").tally("you").elsewhere == 0


def test_clips_without_states(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0)
    empty = poll(run, config(run), None, True)
    assert empty is not None and not empty.states and empty.ahead == ()
    clips = random_segments(np.random.default_rng(0), 2, 5)
    bare = type(clips)(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    FeedbackStore(run / "labels.sqlite").ask([Query(0, 0, "u", bare)])
    polled = poll(run, config(run), empty, True)
    assert polled is not None and not polled.states and polled.question is not None
