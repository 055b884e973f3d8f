import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.data import CORRECTION, DEMONSTRATION, RANKING, RATING, REWARD, Feedback, Query
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import Tally
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.labelling.session import (
    LEFT,
    RIGHT,
    TIE,
    Question,
    Session,
)
from rlhf_control.runs.status import known_environment
from tests.conftest import random_segments
from tests.sessions import make_session, question, status

# -- sides


def test_ranks_follow_the_query_whatever_side_the_clips_stood_on(tmp_path: Path) -> None:
    session = make_session(tmp_path, 20)
    expected = []
    for i in range(20):
        q = question(session)
        assert q.clips == tuple(q.asked.clips[place] for place in q.shown)
        seen = (LEFT, RIGHT, TIE, None)[i % 4]
        better = None if seen in (TIE, None) else q.shown[seen.index(0)]
        expected.append((0, 0) if seen == TIE else None if seen is None else (better, 1 - better))  # type: ignore[operator]
        session.vote(seen, seconds=1.5)
    votes = session.store.votes()
    assert [vote.feedback.ranks for vote in votes if vote.feedback] == expected
    assert {vote.shown for vote in votes} == {(0, 1), (1, 0)}
    assert {vote.feedback.seconds for vote in votes if vote.feedback} == {1.5}


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_ranks_of_a_shuffled_ranking(shown: list[int], seen: list[int]) -> None:
    asked = type("Asked", (), {"clips": tuple("abcde")})
    ranks = Question(asked, tuple(shown)).ranks(seen)  # type: ignore[arg-type]
    assert [ranks[place] for place in shown] == seen


def test_sides_are_random_and_repeat_with_a_seed(tmp_path: Path) -> None:
    session = make_session(tmp_path, 100)
    shown = [q.shown for q in session.upcoming(100)]
    assert 30 < shown.count((0, 1)) < 70
    assert [q.shown for q in Session(session.store, "me", seed=0).upcoming(100)] == shown
    assert [q.shown for q in Session(session.store, "me").upcoming(100)] != shown


# -- votes and undos


def test_a_vote_is_on_the_disk_before_the_next_question_is_known(tmp_path: Path) -> None:
    session, other = make_session(tmp_path), FeedbackStore(tmp_path / "labels.sqlite")
    first = question(session)
    assert session.next() == first  # asks nothing new as long as it is not answered
    second = session.vote(LEFT)
    assert second is not None and second.key != first.key
    assert [vote.query for vote in other.votes()] == [first.key]
    session.vote(None)
    assert session.vote(TIE) is None and session.next() is None
    assert len(other.votes()) == 3
    with pytest.raises(UserError, match="no question"):
        session.vote(LEFT)


def test_ratings(tmp_path: Path) -> None:
    session = make_session(tmp_path, 2, RATING, 1)
    question(session)
    session.vote(None, 4.0, 0.5)
    session.vote(None)
    assert [vote.feedback for vote in session.store.votes()] == [
        Feedback(None, "me", 0.5, 4.0), Feedback(None, "me", 0.0),
    ]  # fmt: skip


def test_undo_without_limit(tmp_path: Path) -> None:
    """Each brings its question back at once, on the sides it stood on, and nobody else can have it meanwhile."""
    session, you = make_session(tmp_path, 4), Session(FeedbackStore(tmp_path / "labels.sqlite"), "you")
    assert session.undo() is None and session.next() is not None  # nothing to take back
    stood = []
    for _ in range(3):
        stood.append(question(session))
        session.vote(LEFT)
    last = question(session)
    for before in reversed(stood):
        assert session.undo() == before
        assert you.next() is None
    assert session.undo() == stood[0] and session.undone == 3
    assert in_force(session.store.votes()) == {}
    for following in (*stood[1:], last):
        assert session.vote(RIGHT) == following
    assert len(session.store.votes()) == 9


def test_a_question_stays_when_its_vote_cannot_be_saved(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    first = question(session)
    session.store.database.hurry(0.05)
    with sqlite3.connect(session.store.path) as db:
        db.execute("BEGIN EXCLUSIVE")
        for action in (lambda: session.vote(LEFT), session.undo if session.done else lambda: session.vote(None)):
            with pytest.raises(UserError, match="locked"):
                action()
    db.close()
    assert session.question == first and session.done == []
    session.vote(LEFT)
    assert len(session.done) == 1


# -- leases


def test_a_question_is_kept_as_long_as_it_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, you = make_session(tmp_path, 1), Session(FeedbackStore(tmp_path / "labels.sqlite"), "you")
    now = time.time()
    monkeypatch.setattr("rlhf_control.feedback.store.time.time", lambda: now)
    question(session)
    for _ in range(4):
        now += 0.5 * session.lease
        assert session.renew() and you.next() is None
    now += 1.1 * session.lease  # away
    assert you.next() is not None
    assert not session.renew() and session.question is None
    you.close()
    assert question(session).key == session.store.asked()[0].key


def test_an_answer_belongs_to_the_question_that_was_seen(tmp_path: Path) -> None:
    """Also if that one was lost to somebody else while the key was pressed: work that is done is not thrown away."""
    session, you = make_session(tmp_path, 3), Session(FeedbackStore(tmp_path / "labels.sqlite"), "you")
    session.lease = 0.01
    first = question(session)
    time.sleep(0.05)
    assert question(you).key == first.key
    session.lease = 60.0
    assert not session.renew()
    other = question(session)
    assert other.key != first.key
    assert session.vote(LEFT, seconds=1.0, question=first) == other
    assert [vote.query for vote in session.store.votes()] == [first.key]


def test_a_lease_that_ran_out_is_taken_again_if_nobody_was_quicker(tmp_path: Path) -> None:
    session = make_session(tmp_path, 2)
    session.lease = 0.01
    first = question(session)
    time.sleep(0.05)
    assert session.renew() and session.question == first


def test_close_gives_back_all_that_was_claimed(tmp_path: Path) -> None:
    session, you = make_session(tmp_path, 3), Session(FeedbackStore(tmp_path / "labels.sqlite"), "you")
    first = question(session)
    session.vote(LEFT)
    session.undo()  # holds two now
    session.close()
    assert question(you).key == first.key
    you.close()
    session.store.database.hurry(0.05)
    with sqlite3.connect(session.store.path) as db:
        db.execute("BEGIN EXCLUSIVE")
        session.close()  # a locked store is no reason not to leave
    db.close()


def test_only_what_people_judge_is_asked(tmp_path: Path) -> None:
    session = make_session(tmp_path, 0)
    rng = np.random.default_rng(1)
    sizes = {DEMONSTRATION: 2, CORRECTION: 2, REWARD: 1, RANKING: 3}
    session.store.ask([Query(0, i, "u", random_segments(rng, k, 5), kind) for i, (kind, k) in enumerate(sizes.items())])
    assert question(session).kind == RANKING
    assert session.vote((0, 1, 1)) is None
    assert session.store.tally("me") == Tally(1, 1, 1, 0)


def test_a_correction_brings_its_answer(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    q = question(session)
    improved = random_segments(np.random.default_rng(7), 5)
    session.correct(1, improved, q)
    asked = session.store.asked()[-1]
    assert (asked.kind, asked.strategy) == (CORRECTION, CORRECTION)
    assert asked.clips == (q.clips[1], improved.digest())
    assert session.store.votes()[0].feedback == Feedback((1, 0), "me") and session.question == q


# -- what is told


def test_one_of_two_annotators_has_half_of_the_answers_to_give(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    assert session.left(Tally(4, 8, 4, 0), 24) == 20
    session.annotators = 2
    assert session.left(Tally(4, 8, 4, 0), 24) == 8
    assert session.left(Tally(23, 24, 11, 0), 24) == 1 and session.left(Tally(24, 24, 12, 0), 24) == 0


def test_the_environment_of_a_run_without_a_status(tmp_path: Path) -> None:
    assert known_environment(tmp_path, None) is None
    (tmp_path / "manifest.json").write_text('{"env_id": "Hopper-v5"}')
    (tmp_path / "config.json").write_text('{"config": {"env": {"healthy_reward": 2.0}}}')
    known = known_environment(tmp_path, None)
    assert known is not None and (known.env_id, known.env) == ("Hopper-v5", {"healthy_reward": 2.0})
    told = status()
    assert known_environment(tmp_path, told) is told
