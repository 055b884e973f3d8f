from pathlib import Path

import pytest

from rlhf_control.data import COMPARISON, RANKING, RATING, Feedback
from rlhf_control.errors import UserError
from rlhf_control.viewer.watch.history import History, read_history, stamp, told
from tests.human_runs import make_run


def test_votes_in_words(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", (COMPARISON, RANKING, RATING, COMPARISON))
    first, second, third, fourth = (asked.key for asked in store.asked())
    before = stamp(store)
    store.vote(first, Feedback((0, 1), "anna", 2.5), (1, 0))
    store.undo(first, "anna")
    store.vote(first, Feedback((1, 0), "anna", 1.0), (1, 0))
    store.vote(first, Feedback((0, 0), "ben"))
    store.vote(first, Feedback((0, 1), "ben"))
    store.vote(second, Feedback((1, 0, 1), "anna"), (2, 0, 1))
    store.vote(second, Feedback((0, 0, 0), "ben"))
    store.vote(third, Feedback(None, "anna", None, 4.0))
    store.vote(third, Feedback(None, "ben"))
    assert stamp(store) != before
    history = read_history(store)
    lines = [told(asked, history.votes.get(asked.key, [])) for asked in history.asked]
    assert [(v.annotator, v.answer, v.best, v.seconds, v.shown, v.fate) for v in lines[0]] == [
        ("anna", "A is better", (0,), 2.5, "B A", "taken back"),
        ("anna", "B is better", (1,), 1.0, "B A", ""),
        ("ben", "equally good", (), None, "A B", "replaced"),
        ("ben", "A is better", (0,), None, "A B", ""),
    ]
    assert [(v.answer, v.best, v.shown) for v in lines[1]] == [
        ("B > A = C", (1,), "C A B"),
        ("equally good", (), "A B C"),
    ]
    assert [(v.answer, v.shown) for v in lines[2]] == [("4", ""), ("cannot tell", "")]
    assert lines[3] == []
    assert fourth == history.asked[3].key


def test_questions_are_found_by_number_and_by_key(tmp_path: Path) -> None:
    history = read_history(make_run(tmp_path / "run"))
    keys = [asked.key for asked in history.asked]
    assert [history.find(wanted) for wanted in ("", "1", "3", keys[1][:12], keys[2])] == [2, 0, 2, 1, 2]
    with pytest.raises(UserError, match="no question with the number or key 'xyz'; give a number from 1 to 3"):
        history.find("xyz")
    with pytest.raises(UserError, match="no question"):
        history.find("0")
    assert History((), {}).find("") == 0
