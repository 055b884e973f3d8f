import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.data import Feedback
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.schema import SCHEMA_1, SCHEMA_BEFORE
from rlhf_control.feedback.store import FeedbackStore
from tests.feedback.stores import make_queries, make_store

VOTE = Feedback((0, 1), "me", 1.0)
KEY = make_queries(1)[0].segments.digest() + "/comparison/0"  # of the first query


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    store, keys = make_store(tmp_path, 3)
    for key in keys:
        store.vote(key, VOTE)
    return store


def alter(path: Path, *statements: str) -> None:
    """What another program may do to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)


# -- power loss


def test_every_commit_is_synced_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXTRA (3): else the journal may come back with the power, and undo what was acknowledged."""
    modes = []

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                modes.append([super(Watched, self).execute(f"PRAGMA {p}").fetchone()[0] for p in PRAGMAS])
            return super().execute(statement, *values)

    PRAGMAS = ("synchronous", "journal_mode", "foreign_keys")
    connect = sqlite3.connect
    monkeypatch.setattr(
        "rlhf_control.feedback.database.sqlite3.connect", lambda *a, **k: connect(*a, **k, factory=Watched)
    )
    store, (key,) = make_store(tmp_path)
    store.vote(key, VOTE)
    store.undo(key, "me")
    store.claim("me", 60)
    store.renew("me", 60)
    store.release(None, "me")
    store.vote_and_claim(None, "me", 60)
    assert len(modes) >= 8 and all(mode == [3, "delete", 1] for mode in modes)


# -- foreign SQL


SWALLOW = "CREATE TRIGGER swallow BEFORE INSERT ON votes BEGIN SELECT RAISE(IGNORE); END"
ENDLESS = (
    "CREATE VIEW answers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS query, i AS annotator FROM n"
)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ((SWALLOW,), "trigger 'swallow'"),
        (("DROP VIEW answers", ENDLESS), "view 'answers'"),
        (("DROP TRIGGER no_delete",), "lacks trigger no_delete"),
        (("CREATE INDEX mine ON votes (voted + 1)",), "index 'mine'"),
        (("CREATE TABLE notes (text)",), "table 'notes'"),
        (("UPDATE sqlite_master SET sql = replace(sql, 'undo IN (0, 1)', '1') WHERE name = 'votes'",), "table 'votes'"),
    ],
)
def test_a_store_with_foreign_sql_is_not_used(store: FeedbackStore, statements: tuple[str, ...], words: str) -> None:
    alter(store.path, *statements)
    before = store.path.read_bytes()
    with pytest.raises(CorruptFileError, match=words):
        FeedbackStore(store.path, create=False)
    for use in (store.votes, store.asked, lambda: store.vote(KEY, VOTE), lambda: store.claim("b", 60)):
        with pytest.raises(CorruptFileError, match=words):  # nor by who had it open already
            use()
    with pytest.raises(CorruptFileError, match=words):
        store.copy_to(store.path.with_name("copy.sqlite"))
    assert store.path.read_bytes() == before


def test_a_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A database of another program, in WAL mode, whatever its version says."""
    path = tmp_path / "labels.sqlite"
    for version in (0, 1, 2, 7):
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE recipes (name)")
            db.execute(f"PRAGMA user_version = {version}")
        before = path.read_bytes()
        with pytest.raises(UserError, match=r"schema version|not ours"):
            FeedbackStore(path)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_store_that_another_program_put_into_wal_mode_is_read(store: FeedbackStore) -> None:
    votes = store.votes()
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    assert FeedbackStore(store.path).votes() == votes
    assert store.path.read_bytes()[18:20] == b"\1\1"


@pytest.mark.parametrize("statements", [SCHEMA_BEFORE, (SCHEMA_1[0], *SCHEMA_BEFORE[1:])])
def test_stores_of_before_are_known(tmp_path: Path, statements: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(tmp_path / "labels.sqlite")) as db:
        for statement in (*statements, "PRAGMA user_version = 2"):
            db.execute(statement)
    store, (key,) = make_store(tmp_path)
    store.vote(key, VOTE)
    assert len(FeedbackStore(store.path).votes()) == 1


def test_a_store_of_version_1_with_foreign_sql_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(path)) as db:
        for statement in (*SCHEMA_1, "CREATE VIEW v AS SELECT 1", "PRAGMA user_version = 1"):
            db.execute(statement)
    before = path.read_bytes()
    with pytest.raises(CorruptFileError, match="view 'v'"):
        FeedbackStore(path)
    assert path.read_bytes() == before


def test_work_without_end_is_ended(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_control.feedback.database.COMPUTING_SECONDS", 0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(CorruptFileError, match="of computing"), store.database.reading() as db:
        db.execute(endless).fetchone()


# -- what is checked on opening


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (("DROP TRIGGER no_delete", "DELETE FROM votes WHERE id = 2"), "vote 2 is missing"),
        (("DROP TRIGGER no_delete", "DELETE FROM votes WHERE id = 3"), "votes counted: 3, there: 2"),  # a lost tail
        (("UPDATE sqlite_sequence SET seq = 9",), "votes counted: 9, there: 3"),
        (("UPDATE sqlite_sequence SET seq = 1",), "votes counted: 1, there: 3"),
        (("DELETE FROM sqlite_sequence",), "votes counted: 0, there: 3"),
        (("DELETE FROM queries WHERE number = 2",), "query [0-9a-f]{12} is missing"),
        (("DELETE FROM segments WHERE digest = (SELECT min(digest) FROM segments)",), "clip [0-9a-f]{12} is missing"),
        (("DELETE FROM items WHERE side = 1",), "query [0-9a-f]{12} is damaged"),
        (("UPDATE queries SET annotators = 7 WHERE number = 2",), "query [0-9a-f]{12} is damaged"),
    ],
)
def test_what_is_missing_is_named(store: FeedbackStore, statements: tuple[str, ...], words: str) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        no_delete = db.execute("SELECT sql FROM sqlite_master WHERE name = 'no_delete'").fetchone()[0]
    alter(store.path, *statements, *[no_delete] * (statements[0] == "DROP TRIGGER no_delete"))
    with pytest.raises(CorruptFileError, match=words):
        FeedbackStore(store.path, create=False)


def test_a_damaged_index_is_noticed(store: FeedbackStore) -> None:
    """Through it a question could be answered that nobody is offered."""
    with closing(sqlite3.connect(store.path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_annotator'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    data = bytearray(store.path.read_bytes())
    place = data.index(b"comparison", (page - 1) * size)
    assert place < page * size
    data[place] ^= 1
    store.path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="damaged"):
        FeedbackStore(store.path, create=False)


def test_no_vote_is_acknowledged_that_would_be_missed_later(store: FeedbackStore) -> None:
    alter(store.path, "UPDATE sqlite_sequence SET seq = 9")  # after it was opened
    with pytest.raises(CorruptFileError, match="vote 4 would get the number 10"):
        store.vote(KEY, VOTE)
    assert len(store.votes()) == 3


# -- locks


@pytest.fixture
def locked(store: FeedbackStore) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield db


def test_a_locked_store_is_waited_for_and_that_is_said(
    store: FeedbackStore, locked: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    store.database.timeout = 0.05
    looks: list[bool] = []

    def look() -> None:
        looks.append(store.database.locked(0.0))
        if len(looks) == 3:
            locked.execute("ROLLBACK")

    store.database.while_locked = look
    store.vote(KEY, VOTE)
    assert len(store.votes()) == 4 and all(looks) and not store.database.locked(0.0)
    said = capsys.readouterr().err
    assert said.count("is locked by another program; waiting for it") == 1 and "waited" in said


def test_whoever_waits_can_leave(store: FeedbackStore, locked: sqlite3.Connection) -> None:
    class Left(Exception):
        pass

    def leave() -> None:
        raise Left

    store.database.timeout, store.database.while_locked = 0.05, leave
    for use in (store.votes, lambda: store.vote(KEY, VOTE)):
        with pytest.raises(Left):
            use()
    store.database.hurry(0.05)
    with pytest.raises(UserError, match="is locked by another program for"):
        store.vote(KEY, VOTE)


def test_a_reader_in_the_way_of_a_commit_is_waited_for(store: FeedbackStore) -> None:
    store.database.timeout = 0.05
    with closing(sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM votes").fetchone()
        store.database.while_locked = lambda: reader.execute("COMMIT") and None
        store.vote(KEY, VOTE)
    assert len(store.votes()) == 4
