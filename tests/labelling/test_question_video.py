from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from rlhf_control.data import Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.labelling.question_video import TIMES, VideoStudio, ended, held
from rlhf_control.labelling.session import Question, Session
from tests.human_runs import make_run


def test_each_question_has_its_file_as_long_as_it_is_open(tmp_path: Path) -> None:
    session = Session(make_run(tmp_path / "run"), "me", seed=0)
    question = session.next()
    assert question is not None
    with VideoStudio(tmp_path / "run", session, 1.0) as studio:
        path = studio.video(question)
        assert path.parent == tmp_path / "run" / "clips" and studio.video(question) == path
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert frames == TIMES * (5 + 12)  # five steps of 0.05 s, and 0.6 s on the last
        assert seconds == pytest.approx(frames * 0.05, abs=0.1)
        studio.forget(question)
        assert not path.exists()
        following = [studio.video(each) for each in session.upcoming(2)]
        assert len(set(following)) == 2
    assert not list((tmp_path / "run" / "clips").glob("*.mp4"))


def test_what_was_in_the_way_may_go(tmp_path: Path) -> None:
    session = Session(make_run(tmp_path / "run"), "me", seed=0)
    question = session.next()
    assert question is not None
    (tmp_path / "run" / "clips").write_text("in the way")
    with VideoStudio(tmp_path / "run", session, 1.0) as studio:
        with pytest.raises(UserError, match="cannot write"):
            studio.video(question)
        (tmp_path / "run" / "clips").unlink()
        assert studio.video(question).is_file()


def test_an_unknown_environment_is_said(tmp_path: Path) -> None:
    session = Session(make_run(tmp_path / "run"), "me", seed=0)
    question = session.next()
    assert question is not None
    (tmp_path / "run" / "status.json").unlink()
    with (
        VideoStudio(tmp_path / "run", session, 1.0) as studio,
        pytest.raises(UserError, match="does not say what environment"),
    ):
        studio.video(question)


def test_the_last_frame_is_held() -> None:
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert held(frames, 10).shape == (9, 2, 2, 3)
    assert (held(frames, 10)[3:] == 2).all()


def test_what_ended_is_dark_until_the_other_is_over() -> None:
    frames = np.full((3, 2, 2, 3), 100, np.uint8)
    whole = ended(frames, 5)
    assert whole.shape == (5, 2, 2, 3) and (whole[:3] == 100).all() and (whole[3:] == 35).all()
    np.testing.assert_array_equal(ended(frames, 3), frames)


def test_a_clip_that_ends_early_is_as_long_as_the_other(tmp_path: Path) -> None:
    session = Session(make_run(tmp_path / "run"), "me", seed=0)
    question = session.next()
    assert question is not None
    clips = list(session.store.segments(question.clips).values())
    short = Segments.stack([clips[0][-2:], clips[1]])
    session.store.ask([Query(9, 0, EARLY_END, short)])
    asked = [a for a in session.store.asked() if a.strategy == EARLY_END]
    with VideoStudio(tmp_path / "run", session, 1.0) as studio:
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(studio._make(Question(asked[0], (0, 1)))))
    assert frames == TIMES * (5 + 12)
