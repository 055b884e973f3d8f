import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.data import COMPARISON, CORRECTION, DEMONSTRATION, RANKING, RATING, REWARD, Feedback, Query
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import Tally
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.labelling.predictions import Predictions
from rlhf_control.labelling.run_state import News, goal, pace, read_news, run_line, situation
from rlhf_control.labelling.session import (
    ALL_DONE,
    ELSEWHERE,
    EMPTY,
    FAILED,
    FINISHED,
    LEFT,
    LOST,
    OTHERS,
    RIGHT,
    STARTING,
    STOPPED,
    TIE,
    WAITING,
    Answered,
    Question,
    Session,
)
from rlhf_control.labelling.summary import summary, summary_text
from rlhf_control.runs.status import Status, known_environment, write_status
from tests.conftest import random_segments


def make_session(folder: Path, n: int = 3, kind: str = COMPARISON, size: int = 2, annotators: int = 1) -> Session:
    """On a store of n queries; the annotator is me."""
    store = FeedbackStore(folder / "labels.sqlite")
    rng = np.random.default_rng(0)
    queries = [Query(0, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]
    store.ask(queries, annotators=annotators)
    return Session(store, "me", seed=0)


def question(session: Session) -> Question:
    found = session.next()
    assert found is not None
    return found


def status(state: str = "waiting", **changed: object) -> Status:
    fields = {"state": state, "pid": os.getpid(), "updated": time.time(), "env_id": "HalfCheetah-v5"}
    return Status(**{**fields, **changed})  # type: ignore[arg-type]


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


def test_pace_by_hand() -> None:
    done = [Answered(None, LEFT, None, seconds) for seconds in (9.0, 9.0, *[3.0] * 11, *[1.0] * 8, 600.0)]  # type: ignore[arg-type]
    assert pace([], 10).per_minute is None
    told = pace(done, 10)  # the median of the latest twenty
    assert told.per_minute == pytest.approx(20) and told.seconds_left == pytest.approx(30)


OPEN, DONE, THEIRS = Tally(3, 9, 3, 0), Tally(9, 9, 9, 0), Tally(8, 9, 8, 1)


@pytest.mark.parametrize(
    ("state", "lively", "tally", "expected"),
    [
        ("starting", True, DONE, STARTING), ("training", True, DONE, WAITING), ("waiting", True, DONE, WAITING),
        ("waiting", True, OPEN, OTHERS), ("training", True, OPEN, WAITING), ("waiting", True, THEIRS, ELSEWHERE),
        ("training", False, DONE, LOST), ("finished", False, DONE, FINISHED),
        ("stopped", False, DONE, STOPPED), ("failed", False, DONE, FAILED), ("failed", False, THEIRS, ELSEWHERE),
        (None, False, DONE, ALL_DONE), (None, False, THEIRS, ELSEWHERE), (None, False, Tally(0, 0, 0, 0), EMPTY),
    ],
)  # fmt: skip
def test_situations(state: str | None, lively: bool, tally: Tally, expected: str) -> None:
    assert situation(News(None if state is None else status(state), lively, tally)) == expected


def test_after_the_last_answer_no_question_is_promised() -> None:
    for state in ("training", "waiting"):
        assert situation(News(status(state, more=False), True, DONE)) == "answered"
        assert situation(News(status(state, more=False), True, OPEN)) == "others"
    assert situation(News(status("training"), True, OPEN)) == "waiting"


def test_the_run_in_a_line() -> None:
    now = 1000.0
    assert run_line(None, now) == ("no run beside this window", "quiet")
    for told, lively, tally, line, mood in [
        (status("waiting"), True, OPEN, "the run waits for 6 more answers", "good"),
        (status("waiting"), True, THEIRS, "the run waits for 1 more answer", "good"),
        (status("waiting"), True, DONE, "the run goes on", "good"),
        (status("training", next_question=now + 17), True, DONE, "training, next question in about 20 s", "busy"),
        (status("training"), True, DONE, "training, next question soon", "busy"),
        (status("training", more=False), True, DONE, "training, no more questions", "busy"),
        (status("training", holding=True), True, DONE, "holding the policy, next question soon", "busy"),
        (status("starting"), True, DONE, "starting", "busy"),
        (status("training"), False, DONE, "the run is gone; votes are kept", "bad"),
        (status("stopped"), False, DONE, "the run is stopped; votes are kept", "bad"),
        (status("failed"), False, DONE, "the run failed; votes are kept", "bad"),
        (status("finished"), False, DONE, "the run has finished", "quiet"),
        (status("finished", message="so"), False, DONE, "the run has finished; nothing was learned", "bad"),
    ]:
        assert run_line(News(told, lively, tally), now) == (line, mood)


def test_news_of_a_run(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    assert read_news(tmp_path, session.store, "me") == News(None, False, Tally(0, 3, 0, 0))
    write_status(tmp_path, status(wanted=100))
    news = read_news(tmp_path, session.store, "me")
    assert news.lively and goal(news.tally, news.status) == 100 and goal(news.tally, None) == 3


def test_the_environment_of_a_run_without_a_status(tmp_path: Path) -> None:
    assert known_environment(tmp_path, None) is None
    (tmp_path / "manifest.json").write_text('{"env_id": "Hopper-v5"}')
    (tmp_path / "config.json").write_text('{"config": {"env": {"healthy_reward": 2.0}}}')
    known = known_environment(tmp_path, None)
    assert known is not None and (known.env_id, known.env) == ("Hopper-v5", {"healthy_reward": 2.0})
    told = status()
    assert known_environment(tmp_path, told) is told


def test_predictions_are_told_by_side(tmp_path: Path) -> None:
    session, predictions = make_session(tmp_path, 20), Predictions(tmp_path)
    questions = session.upcoming(20)
    assert predictions.expected(questions[0]) is None  # nothing was written
    lines = [json.dumps({"key": q.key, "probability_first": 0.8}) for q in questions]
    (tmp_path / "predictions.jsonl").write_text("\n".join(["nonsense", '{"key": 1}', *lines[:-1], lines[-1][:30]]))
    for q in questions[:-1]:
        assert predictions.expected(q) == (q.shown.index(0), 0.8)
    assert predictions.expected(questions[-1]) is None  # half written
    with open(tmp_path / "predictions.jsonl", "a") as file:
        file.write(lines[-1][30:] + "\n")
    assert predictions.expected(questions[-1]) == (questions[-1].shown.index(0), 0.8)


def test_no_prediction_for_what_is_no_pair(tmp_path: Path) -> None:
    session = make_session(tmp_path, 1, RATING, 1)
    (tmp_path / "predictions.jsonl").write_text(
        json.dumps({"key": question(session).key, "probability_first": 1}) + "\n"
    )
    assert Predictions(tmp_path).expected(question(session)) is None


# -- the summary


def answer_all(session: Session, choose: Callable[[Question], tuple[int, int] | None], seconds: float = 2.0) -> None:
    while (q := session.next()) is not None:
        session.vote(choose(q), seconds=seconds)


def test_the_summary(tmp_path: Path) -> None:
    """Six pairs, of which two are asked again; always the left one; another annotator agrees on all of the six."""
    session = make_session(tmp_path, 6, annotators=2)
    keys = [asked.key for asked in session.store.asked()]
    facts = {fact.name: fact for fact in summary(session)}
    assert facts["votes"].value == "0" and "seconds a vote" not in facts
    assert facts["asked again"].value == "none yet" and facts["left clip preferred"].value == "no clear answers yet"
    again = [Query(1, i, "repeat", session.store.query(keys[i]).segments, COMPARISON, 1) for i in range(2)]
    session.store.ask(again)
    answer_all(session, lambda q: LEFT)
    for key in keys:
        session.store.vote(key, Feedback((0, 1), "you"))
    session.undo()
    session.vote(TIE)
    facts = {fact.name: fact for fact in summary(session)}
    assert facts["votes"].value == "8" and facts["votes"].note == "1 tied, 1 undone"
    assert facts["seconds a vote"].value == "2.0"
    assert facts["left clip preferred"].value == "100% of 7" and "leans left" in facts["left clip preferred"].note
    assert facts["same answer when asked again"].value in ("0 of 2", "1 of 2")
    assert facts["agreement with others"].note == "6 judged by 2 annotators"
    text = summary_text(list(facts.values()))
    assert len(text.splitlines()) == 5 and "same answer when asked again  " in text
