"""The feedback store: queries with their clips by value, leases, and every vote ever cast. One SQLite file in the
run's folder, which several processes and annotators may use at once.

A vote is on the disk before `vote` returns. Votes are history: a changed mind and an undo are new rows, and no row is
ever altered. Each row carries a SHA-256 (its seal), as each clip does, so that damage is noticed and not learned from.
How the file is opened, and what it must be like before it is used, is in `database`.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.database import Connection, Database, check_content, check_file, check_schema, version_of
from rlhf_control.feedback.packing import pack, unpack
from rlhf_control.feedback.schema import (
    LONGEST_LEASE,
    NEXT_QUERIES,
    SCHEMA,
    SCHEMA_VERSION,
    TALLY,
    Asked,
    Tally,
    Version,
    Vote,
    brief,
    check_clips,
    check_name,
    check_query,
    check_vote,
    new_vote,
    order,
    query_key,
)
from rlhf_control.runs.files import refuse_foreign


class FeedbackStore:
    """Opens with a path; the file is made when it is missing, unless `create` is False. A store of an older version is
    brought to ours. `timeout` (s): for how long another process may keep it locked before that is said, or, if not
    `patient`, is a UserError."""

    def __init__(self, path: str | Path, *, create: bool = True, timeout: float = 10.0, patient: bool = True) -> None:
        self.path = Path(path)
        self.database = Database(self.path, timeout, patient)
        self.database.may_create = create
        refuse_foreign(self.path)
        if not self.path.parent.is_dir():
            raise UserError(f"cannot open {self.path}: its folder does not exist")
        if not create and not self.path.is_file():
            raise UserError(f"{self.path} does not exist; name a run's folder that has a labels.sqlite")
        if not create and self.path.stat().st_size == 0:
            raise CorruptFileError(f"{self.path} is empty, so what it held is gone; restore it from a copy")
        if self.path.is_file():
            self.database.first_schema = check_file(self.path) == 1
        with self.database.reading(check=lambda db: None) as db:
            if version_of(db) == SCHEMA_VERSION:
                self.database.may_create = False  # whatever becomes of the file
                return self._check(db)
        with self.database.writing(check=lambda db: None) as db:
            if 1 <= (version := version_of(db)) < SCHEMA_VERSION:
                check_schema(db, self.path, version)
                (_migrate_first if version == 1 else _migrate)(db)
            elif create and version_of(db) == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                _create(db)
            self._check(db)  # another process may have been first
        self.database.first_schema = self.database.may_create = False

    def _check(self, db: Connection) -> None:
        """Raises CorruptFileError unless all is there and as it was written, but for the clips, which are checked when
        they are read."""
        check_schema(db, self.path)
        check_content(db, self.path)
        self._read_asked(db)
        self._read_votes(db)

    def ask(
        self, queries: Sequence[Query], *, annotators: int = 1, policy: Version = None, reward: Version = None
    ) -> list[Asked]:
        """Stores queries, each to be answered by so many annotators. One that is there already (a resumed run asks
        again) is left as it is. `policy` and `reward` are the versions of the models behind them."""
        asked, clips = [], dict[str, Segments]()
        for q in queries:
            check_clips(q.segments, f"query {brief(q.index)} of round {brief(q.round)}", 2)
            parts = [q.segments[side].present() for side in range(len(q.segments))]
            digests = tuple(part.digest() for part in parts)
            clips |= dict(zip(digests, parts, strict=True))
            place = (q.kind, _own(q.repeat), _own(q.round), _own(q.index), q.strategy, _own(annotators))
            asked.append(Asked(query_key(q), *place, _own(policy), _own(reward), time.time(), digests))
        self.add(asked, clips)
        return asked

    def vote(self, query: str, feedback: Feedback, shown: Sequence[int] | None = None) -> None:
        """Commits one answer to the query of this key; the last one of an annotator counts. Ranks follow the query's
        order; `shown` is the order in which the clips stood before the annotator (default: the query's)."""
        self.add(votes=[new_vote(query, feedback, shown)])

    def undo(self, query: str, annotator: str) -> None:
        """Takes the annotator's answer to this query back: another line of history, and the query is open again."""
        self.add(votes=[Vote(query, annotator, None, None, time.time())])

    def add(
        self, asked: Iterable[Asked] = (), clips: Mapping[str, Segments] | None = None, votes: Iterable[Vote] = ()
    ) -> None:
        """Writes queries, their clips (L, ...) by digest, and votes in their order: all or, on an error, nothing."""
        for digest, clip in (clips or {}).items():
            check_clips(clip, f"clip {digest[:12]}")
        packed = [(digest, pack(clip)) for digest, clip in (clips or {}).items()]
        with self.database.writing() as db:
            db.executemany("INSERT INTO segments VALUES (?, ?) ON CONFLICT DO NOTHING", packed)
            for query in asked:
                check_query(query)
                _insert_query(db, query)
            for vote in votes:
                self._add_vote(db, vote)

    def claim(self, annotator: str, seconds: float, key: str | None = None) -> tuple[str, Query] | None:
        """Claims the query that this annotator is to answer next, and returns its key and itself, or None. It is the
        annotator's alone for so many seconds (LONGEST_LEASE at most), or until voted on or released; a claim before
        that gives the same query again (a restarted program goes on where it was), so an annotator is one person at one
        place. The query of `key` comes first if it is open to the annotator."""
        with self.database.writing() as db:
            next_key = _lease(db, annotator, seconds, key)
        return None if next_key is None else (next_key, self.query(next_key))

    def vote_and_claim(self, vote: Vote | None, annotator: str, seconds: float, key: str | None = None) -> Asked | None:
        """Adds a vote, if there is one, and claims the annotator's next query, in one transaction: one wait for the
        disk, and no moment in between at which somebody else could take an undone query."""
        with self.database.writing() as db:
            if vote is not None:
                self._add_vote(db, vote)
            next_key = _lease(db, annotator, seconds, key)
            return None if next_key is None else self._read_asked(db, "WHERE key = ?", (next_key,))[0]

    def upcoming(self, annotator: str, n: int) -> list[Asked]:
        """Returns the queries that this annotator would claim next, the first of them first. Nothing is claimed: others
        may be quicker."""
        with self.database.reading() as db:
            rows = db.execute(NEXT_QUERIES, {"annotator": annotator, "now": time.time(), "key": None, "n": n})
            return [self._read_asked(db, "WHERE key = ?", row)[0] for row in rows.fetchall()]

    def renew(self, annotator: str, seconds: float) -> set[str]:
        """Lets all that the annotator has claimed last for so many seconds from now; the keys of it. What has run out
        already is not among them: claim it again."""
        with self.database.writing() as db:
            now, seconds = time.time(), min(seconds, LONGEST_LEASE)
            db.execute(
                "UPDATE leases SET expires = ? WHERE annotator = ? AND expires > ?", (now + seconds, annotator, now)
            )
            rows = db.execute("SELECT query FROM leases WHERE annotator = ? AND expires > ?", (annotator, now))
            return {key for (key,) in rows}

    def release(self, query: str | None, annotator: str) -> None:
        """Gives a claimed query, or (None) all that the annotator has claimed, back unanswered."""
        with self.database.writing() as db:
            db.execute("DELETE FROM leases WHERE annotator = ? AND query = coalesce(?, query)", (annotator, query))

    def tally(self, annotator: str) -> Tally:
        """Says how far everybody is."""
        with self.database.reading() as db:
            now = time.time()
            row = db.execute(TALLY, {"annotator": annotator, "now": now}).fetchone()
            return Tally(*(value or 0 for value in row))

    def asked(self, key: str | None = None) -> list[Asked]:
        """Returns all queries in the order in which they were asked, or the one of this key."""
        with self.database.reading() as db:
            return self._read_asked(db) if key is None else self._read_asked(db, "WHERE key = ?", (key,))

    def query(self, key: str) -> Query:
        """Returns a query with its clips, checked against their SHA-256."""
        found = self.asked(key)
        if not found:
            raise UserError(f"{self.path} has no query {key[:12]}")
        return found[0].query(self.segments(found[0].clips))

    def segments(self, digests: Iterable[str]) -> dict[str, Segments]:
        """Returns the clips (L, ...) of these digests, checked against them."""
        with self.database.reading() as db:
            rows = {d: db.execute("SELECT arrays FROM segments WHERE digest = ?", (d,)).fetchone() for d in digests}
        return {digest: _unpacked(self.path, digest, row) for digest, row in rows.items()}

    def votes(self, after: int = 0) -> list[Vote]:
        """Returns the history, from the vote with this number (from 0) on."""
        with self.database.reading() as db:
            return self._read_votes(db, after)

    def copy_to(self, path: str | Path) -> None:
        """Makes another file with the same content."""
        if Path(path).exists():
            raise UserError(f"{path} exists already; choose another place for the copy")
        self.database.copy_to(Path(path))

    def _add_vote(self, db: Connection, vote: Vote) -> None:
        if not isinstance(vote.query, str):
            raise UserError(f"{brief(vote.query)} is no query's key; name one that `ask` returned")
        row = db.execute("SELECT kind, size FROM queries WHERE key = ?", (vote.query,)).fetchone()
        if row is None:
            raise UserError(f"{self.path} has no query {vote.query[:12]}; ask it first")
        check_vote(vote, *row)
        before, number = db.execute("SELECT max(id) FROM votes").fetchone()[0] or 0, _insert_vote(db, vote)
        if number != before + 1:  # or the next reader would miss one
            raise CorruptFileError(
                f"{self.path} is damaged (vote {before + 1} would get the number {number}); restore it from a copy"
            )
        db.execute("DELETE FROM leases WHERE query = ? AND annotator = ?", (vote.query, vote.annotator))

    def _read_asked(self, db: Connection, where: str = "", values: Sequence[str] = ()) -> list[Asked]:
        rows = db.execute(
            "SELECT key, kind, repeat, round, place, strategy, annotators, policy, reward, asked, size, seal, "
            "(SELECT json_group_array(segment) FROM (SELECT segment FROM items WHERE query = key ORDER BY side)) "
            f"FROM queries {where} ORDER BY number", values
        ).fetchall()  # fmt: skip
        found = []
        for *columns, size, seal, items in rows:
            clips = tuple(json.loads(items))
            if seal != _seal(*columns, *clips) or size != len(clips):
                raise CorruptFileError(f"{self.path}: query {str(columns[0])[:12]} is damaged; restore it from a copy")
            found.append(Asked(*(*columns, clips)))
        return found

    def _read_votes(self, db: Connection, after: int = 0) -> list[Vote]:
        rows = db.execute(
            "SELECT id, query, annotator, undo, ranks, value, shown, seconds, voted, seal FROM votes "
            "WHERE id > ? ORDER BY id", (after,)
        )  # fmt: skip
        history = []
        for number, (row, *columns, seal) in enumerate(rows.fetchall(), after + 1):
            if row != number or seal != _seal(*columns):  # no row is ever deleted, so the numbers have no gaps
                raise CorruptFileError(f"{self.path}: vote {number} is damaged or missing; restore it from a copy")
            query, annotator, undo, ranks, value, shown, seconds, voted = columns
            feedback = None if undo else Feedback(order(ranks and json.loads(ranks)), annotator, seconds, value)
            history.append(Vote(query, annotator, feedback, order(shown and json.loads(shown)), voted))
        return history


def informative(feedback: Feedback) -> bool:
    """Tells whether there is anything to learn from: not "cannot tell"."""
    return feedback.ranks is not None or feedback.value is not None


def in_force(votes: Iterable[Vote]) -> dict[tuple[str, str], Vote]:
    """Returns the vote that counts by (query, annotator), given the whole history."""
    last: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        last.pop((vote.query, vote.annotator), None)
        if vote.feedback is not None:
            last[vote.query, vote.annotator] = vote
    return last


def _unpacked(path: Path, digest: str, row: tuple[bytes] | None) -> Segments:
    """Unpacks the clip of this row. Raises CorruptFileError if it is missing or not the one of this digest."""
    try:
        segment = unpack(row[0])  # type: ignore[index]
        if segment.digest() == digest:
            return segment
    except Exception:  # a damaged zip raises all sorts
        pass
    raise CorruptFileError(f"{path}: clip {digest[:12]} is damaged; restore the file from a copy")


def _lease(db: Connection, annotator: str, seconds: float, key: str | None) -> str | None:
    """Leases the annotator's next query; its key."""
    check_name("an annotator", annotator)  # whose vote would be refused
    now = time.time()
    row = db.execute(NEXT_QUERIES, {"annotator": annotator, "now": now, "key": key, "n": 1}).fetchone()
    if row is None:
        return None
    db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (row[0], annotator, now + min(seconds, LONGEST_LEASE)))
    return row[0]


def _seal(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "backslashreplace")).hexdigest()


def _plain(*values: Any) -> list[Any]:
    """Texts and numbers as SQLite will give them back, which is what a seal must be of: a text of NumPy's, say, has
    another repr, and -0.0 comes back as 0.0."""
    return [value + 0.0 if isinstance(value, float) else value for value in json.loads(json.dumps(values))]


def _own(value: Any) -> Any:
    """A whole number of NumPy's as Python's own."""
    return value.item() if isinstance(value, np.integer) else value


def _create(db: Connection) -> None:
    for statement in SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _migrate(db: Connection) -> None:
    """Older versions than ours, from 2 on, differ in nothing but what they allow, so every row stays as it is. How the
    CHECK of a table is changed in place: https://www.sqlite.org/lang_altertable.html#otheralter."""
    triggers = [statement for statement in SCHEMA if statement.startswith("CREATE TRIGGER")]
    for trigger in triggers:
        db.execute(f"DROP TRIGGER {trigger.split()[2]}")
    queries = next(statement for statement in SCHEMA if statement.startswith("CREATE TABLE queries"))
    number = db.execute("PRAGMA schema_version").fetchone()[0]
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = 'queries'", (queries,))
    db.execute(f"PRAGMA schema_version = {number + 1}")
    db.execute("PRAGMA writable_schema = OFF")
    for trigger in triggers:
        db.execute(trigger)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _migrate_first(db: Connection) -> None:
    """Version 1 knew comparisons only, one annotator a query, and neither undo nor the order shown."""
    queries = db.execute("SELECT digest, round, place, strategy, asked FROM queries ORDER BY round, place").fetchall()
    items = db.execute("SELECT query, segment FROM items ORDER BY query, side").fetchall()
    votes = db.execute("SELECT query, ranks, annotator, seconds, voted FROM votes ORDER BY id").fetchall()
    for table in ("votes", "items", "queries"):
        db.execute(f"DROP TABLE {table}")
    _create(db)
    for digest, label_round, place, strategy, asked in queries:
        clips = tuple(segment for query, segment in items if query == digest)
        _insert_query(
            db,
            Asked(f"{digest}/{COMPARISON}/0", COMPARISON, 0, label_round, place, strategy, 1, None, None, asked, clips),
        )
    for digest, ranks, annotator, seconds, voted in votes:
        feedback = Feedback(order(ranks and json.loads(ranks)), annotator, seconds)
        _insert_vote(db, Vote(f"{digest}/{COMPARISON}/0", annotator, feedback, (0, 1), voted))


def _insert_query(db: Connection, q: Asked) -> None:
    if db.execute("SELECT 1 FROM queries WHERE key = ?", (q.key,)).fetchone():
        return
    place = (q.key, q.kind, q.repeat, q.round, q.index, q.strategy, q.annotators)
    row = _plain(*place, q.policy, q.reward, float(q.time))
    db.execute(
        "INSERT INTO queries "
        "(key, kind, repeat, round, place, strategy, annotators, policy, reward, asked, size, seal) VALUES "
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, len(q.clips), _seal(*row, *q.clips))
    )  # fmt: skip
    db.executemany("INSERT INTO items VALUES (?, ?, ?)", [(q.key, side, clip) for side, clip in enumerate(q.clips)])


def _insert_vote(db: Connection, vote: Vote) -> int:
    """Its number in the history."""
    f = vote.feedback
    answer: tuple[Any, ...] = (1, None, None, None, None)
    if f is not None:
        size = db.execute("SELECT size FROM queries WHERE key = ?", (vote.query,)).fetchone()[0]
        ranks = None if f.ranks is None else json.dumps([int(r) for r in f.ranks])
        value, seconds = (None if x is None else float(x) for x in (f.value, f.seconds))
        shown = range(size) if vote.shown is None else (int(place) for place in vote.shown)
        answer = (0, ranks, value, json.dumps(list(shown)), seconds)
    row = _plain(vote.query, vote.annotator, *answer, float(vote.time))
    inserted = db.execute(
        "INSERT INTO votes (query, annotator, undo, ranks, value, shown, seconds, voted, seal) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, _seal(*row))
    )  # fmt: skip
    return inserted.lastrowid or 0
