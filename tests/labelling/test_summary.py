from collections.abc import Callable
from pathlib import Path

from rlhf_control.data import COMPARISON, Feedback, Query
from rlhf_control.labelling.session import (
    LEFT,
    TIE,
    Question,
    Session,
)
from rlhf_control.labelling.summary import summary, summary_text
from tests.sessions import make_session


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
