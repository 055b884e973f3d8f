import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf_control.config import AnnotatorConfig
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import BEST_RATING, LARGEST_REWARD, SCHEMA

QUERIES = {"comparison": 2, "ranking": 3, "rating": 1, "reward": 1, "demonstration": 2, "correction": 2, "groups": 4}


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A query of each kind, known by the kind's name."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    for statement in SCHEMA:
        db.execute(statement)
    for kind, size in QUERIES.items():
        ask(db, kind, size)
    yield db
    db.close()


def ask(db: sqlite3.Connection, kind: str, size: int, **changed: Any) -> None:
    row = {"key": kind, "kind": kind, "repeat": 0, "round": 0, "place": 0, "strategy": "uniform", "size": size}
    row |= {"annotators": 1, "policy": None, "reward": None, "asked": 0.0, "seal": ""} | changed
    db.execute(f"INSERT INTO queries ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def vote(db: sqlite3.Connection, query: str, **changed: Any) -> None:
    shown = str(list(range(QUERIES.get(query, 2))))
    row = {"query": query, "annotator": "me", "undo": 0, "ranks": None, "value": None, "shown": shown}
    row |= {"seconds": 1.5, "voted": 0.0, "seal": ""} | changed
    db.execute(f"INSERT INTO votes ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


POSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("comparison", {"ranks": "[0, 1]"}),
    ("comparison", {"ranks": "[0, 0]", "shown": "[1, 0]"}),
    ("comparison", {"seconds": None}),  # cannot tell
    ("ranking", {"ranks": "[0, 2, 2]", "shown": "[2, 0, 1]"}),
    ("demonstration", {"ranks": "[0, 1]"}),
    ("correction", {"ranks": "[1, 0]"}),
    ("groups", {"ranks": "[1, 1, 0, 0]", "shown": "[3, 2, 0, 1]"}),
    ("groups", {"ranks": "[0, 0, 0, 0]"}),
    ("rating", {"value": 3.0}),
    ("rating", {"value": float(BEST_RATING)}),
    ("reward", {"value": -LARGEST_REWARD}),
    ("reward", {"value": -0.5}),
]
IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("comparison", {"ranks": "[0]"}),
    ("comparison", {"ranks": "[0, 1, 1]"}),
    ("comparison", {"ranks": "[1, 1]"}),
    ("comparison", {"ranks": "[-1, 0]"}),
    ("comparison", {"ranks": "[0, 2]"}),
    ("comparison", {"ranks": "[0, 0.5]"}),
    ("comparison", {"ranks": '[0, "1"]'}),
    ("comparison", {"ranks": "[0, null]"}),
    ("comparison", {"ranks": "{}"}),
    ("comparison", {"ranks": "0"}),
    ("comparison", {"ranks": "no JSON"}),
    ("comparison", {"value": 1.0}),
    ("comparison", {"ranks": "[0, 1]", "value": 1.0}),
    ("comparison", {"ranks": "[0, 1]", "annotator": ""}),
    ("comparison", {"ranks": "[0, 1]", "annotator": None}),
    ("comparison", {"ranks": "[0, 1]", "seconds": -1.0}),
    ("comparison", {"ranks": "[0, 1]", "seconds": "long"}),
    ("comparison", {"ranks": "[0, 1]", "shown": "[0, 0]"}),
    ("comparison", {"ranks": "[0, 1]", "shown": "[0, 1, 2]"}),
    ("comparison", {"ranks": "[0, 1]", "shown": None}),
    ("comparison", {"ranks": "[0, 1]", "seal": None}),
    ("comparison", {"undo": 1, "shown": None, "seconds": None}),  # nothing to undo
    ("comparison", {"undo": 2}),
    ("groups", {"ranks": "[0, 1, 0, 1]"}),
    ("groups", {"ranks": "[0, 0, 1, 2]"}),
    ("groups", {"ranks": "[0, 0, 2, 2]"}),
    ("groups", {"ranks": "[0, 1]"}),
    ("groups", {"value": 1.0}),
    ("rating", {"value": 0.0}),
    ("rating", {"value": 2.5}),
    ("rating", {"value": BEST_RATING + 1.0}),
    ("rating", {"value": 1e8}),
    ("rating", {"value": "good"}),
    ("rating", {"ranks": "[0]"}),
    ("reward", {"value": float("inf")}),
    ("reward", {"value": 1.1 * LARGEST_REWARD}),
    ("reward", {"value": -1e200}),
    ("reward", {"ranks": "[0]"}),
    ("nothing", {"ranks": "[0, 1]"}),
]


@pytest.mark.parametrize(("query", "columns"), POSSIBLE)
def test_possible_votes(db: sqlite3.Connection, query: str, columns: dict[str, Any]) -> None:
    vote(db, query, **columns)
    assert db.execute("SELECT count(*) FROM answers").fetchone() == (1,)


@pytest.mark.parametrize(("query", "columns"), IMPOSSIBLE)
def test_impossible_votes_do_not_get_in(db: sqlite3.Connection, query: str, columns: dict[str, Any]) -> None:
    with pytest.raises((sqlite3.IntegrityError, sqlite3.OperationalError)):
        vote(db, query, **columns)
    assert db.execute("SELECT count(*) FROM votes").fetchone() == (0,)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("comparison", 1),
        ("comparison", 3),
        ("correction", 3),
        ("ranking", 1),
        ("groups", 2),
        ("groups", 5),
        ("rating", 2),
        ("reward", 0),
        ("wish", 1),
    ],
)
def test_impossible_queries_do_not_get_in(db: sqlite3.Connection, kind: str, size: int) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ask(db, kind, size, key="other")


def test_the_best_rating_is_the_most_levels() -> None:
    assert AnnotatorConfig(levels=BEST_RATING).levels == BEST_RATING
    with pytest.raises(UserError, match="levels"):
        AnnotatorConfig(levels=BEST_RATING + 1)


def test_history_can_only_grow(db: sqlite3.Connection) -> None:
    vote(db, "comparison", ranks="[0, 1]")
    for statement in ("UPDATE votes SET ranks = '[1, 0]'", "DELETE FROM votes"):
        with pytest.raises(sqlite3.IntegrityError, match="votes are history"):
            db.execute(statement)


def test_the_last_row_of_an_annotator_is_the_answer(db: sqlite3.Connection) -> None:
    def answers() -> list[tuple[str, str]]:
        return db.execute("SELECT annotator, ranks FROM answers ORDER BY annotator").fetchall()

    undo = {"undo": 1, "shown": None, "seconds": None}
    vote(db, "comparison", ranks="[0, 1]")
    vote(db, "comparison", ranks="[1, 0]")
    vote(db, "comparison", ranks="[0, 0]", annotator="you")
    assert answers() == [("me", "[1, 0]"), ("you", "[0, 0]")]
    vote(db, "comparison", **undo)
    assert answers() == [("you", "[0, 0]")]
    with pytest.raises(sqlite3.IntegrityError, match="no answer to undo"):
        vote(db, "comparison", **undo)
    vote(db, "comparison", ranks="[0, 1]")
    assert answers() == [("me", "[0, 1]"), ("you", "[0, 0]")]
