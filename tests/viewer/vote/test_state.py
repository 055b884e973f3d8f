from pathlib import Path

import numpy as np

from rlhf_control.config.commands import LabelConfig
from rlhf_control.labelling.session import LEAST_SECONDS
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.state import NOTICE_SECONDS, VotingState
from tests.fake_clips import FRAMES, FakeClips
from tests.sessions import make_session, question


def a_state(folder: Path, came: float = 10.0) -> VotingState:
    """Of a window with a question before the annotator, whose clips are drawn when they are told to be."""
    session = make_session(folder)
    state = VotingState(LabelConfig(str(folder)), folder, session=session, now=came, before=came)
    state.ballot, state.buffer = Ballot(question(session), now=came), ClipBuffer(FakeClips(lazy=True))
    return state


def test_nothing_is_known_at_the_start(tmp_path: Path) -> None:
    state = VotingState(LabelConfig(str(tmp_path)), tmp_path)
    assert not state.answerable() and not state.problem_read() and not state.undoable() and not state.correctable()
    assert state.problem() == "" and state.frames() == 1 and list(state.cameras()) == [] and state.going


def test_a_question_is_answerable_once_it_was_seen(tmp_path: Path) -> None:
    state = a_state(tmp_path)
    assert state.ballot is not None
    state.before = 20.0
    assert not state.answerable()  # its clips were never on the screen
    state.ballot.show(True, 20.0)
    state.now = 20.0 + 2 * LEAST_SECONDS
    assert not state.answerable()  # what is handled now may have been pressed in the frame before
    state.before = state.now
    assert state.answerable()
    state.saving = True
    assert not state.answerable()


def test_a_problem_has_to_be_read_first(tmp_path: Path) -> None:
    state = a_state(tmp_path)
    assert state.ballot is not None and state.buffer is not None
    assert not state.problem_read()
    state.before = 10.0 + LEAST_SECONDS
    assert state.problem_read()
    state.saving = True
    assert not state.problem_read()


def test_the_longest_clip_counts(tmp_path: Path) -> None:
    state = a_state(tmp_path)
    assert state.ballot is not None and state.buffer is not None
    digests = state.ballot.question.clips
    state.buffer.want(digests, (96, 96))
    assert state.frames() == 1
    state.buffer.clips.draw()  # type: ignore[attr-defined]
    assert state.frames() == FRAMES
    whole = state.buffer.frames(digests[0])
    assert whole is not None
    state.buffer._frames[digests[1]] = ((96, 96), 0, np.concatenate([whole, whole]))
    assert state.frames() == 2 * FRAMES


def test_a_notice_stands_for_a_while(tmp_path: Path) -> None:
    state = a_state(tmp_path)
    state.say("a word")
    assert state.notice == ("a word", 10.0 + NOTICE_SECONDS)


def test_a_vote_can_be_taken_back(tmp_path: Path) -> None:
    state = a_state(tmp_path)
    assert state.session is not None and not state.undoable()
    state.session.vote((0, 1))
    assert state.undoable()
