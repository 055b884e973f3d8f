"""The feedback store: queries with their clips by value, leases, and every vote ever cast. One SQLite file in the
run's folder, which several processes and annotators may use at once.

A vote is on the disk before `vote` returns. Votes are history: a changed mind and an undo are new rows, and no row is
ever altered. Each row carries a SHA-256 (its seal), as each clip does, so that damage is noticed and not learned from.
Journal mode DELETE: SQLite's WAL had a corruption bug before 3.51.3 and fails on network file systems.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.packing import pack, unpack
from rlhf_control.schema import (
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

HEADER = 100  # bytes; no SQLite file is shorter, and SQLite takes one of a single byte for a new one


class FeedbackStore:
    """Open with a path; the file is made when it is missing, unless `create` is False. A store of version 1 is brought
    to version 2. `timeout` (s): how long to wait for another process that writes."""

    def __init__(self, path: str | Path, *, create: bool = True, timeout: float = 30.0) -> None:
        self.path, self.timeout = Path(path), timeout
        if not self.path.parent.is_dir():
            raise UserError(f"cannot open {self.path}: its folder does not exist")
        if not create and not self.path.is_file():
            raise UserError(f"{self.path} does not exist; name a run's folder that has a labels.sqlite")
        if not create and self.path.stat().st_size == 0:
            raise CorruptFileError(f"{self.path} is empty, so what it held is gone; restore it from a copy")
        if self.path.is_file() and 0 < (size := self.path.stat().st_size) < HEADER:
            raise CorruptFileError(f"{self.path} is damaged (cut to {size} bytes); restore it from a copy")
        with self._connection() as db:
            problem = " ".join(db.execute("PRAGMA quick_check(1)").fetchone()[0].split())
            if problem != "ok":
                raise CorruptFileError(f"{self.path} is damaged ({problem}); restore it from a copy")
            if _version(db) == SCHEMA_VERSION:
                return
        with self._writing() as db:
            version, foreign = _version(db), bool(db.execute("SELECT 1 FROM sqlite_master").fetchone())
            if version == 1:
                _migrate(db)
            elif version == 0 and not foreign:
                _create(db)
            elif version != SCHEMA_VERSION:  # another process may have been first
                raise UserError(
                    f"{self.path} has schema version {version}, this program reads 1 and {SCHEMA_VERSION}; use the "
                    "version of rlhf_control that wrote it, if it is a feedback store at all"
                )

    def ask(
        self, queries: Sequence[Query], *, annotators: int = 1, policy: Version = None, reward: Version = None
    ) -> list[Asked]:
        """Stores queries, each to be answered by so many annotators. One that is there already (a resumed run asks
        again) is left as it is. `policy` and `reward` are the versions of the models behind them."""
        asked, clips = [], dict[str, Segments]()
        for q in queries:
            check_clips(q.segments, f"query {brief(q.index)} of round {brief(q.round)}", 2)
            parts = [q.segments[side] for side in range(len(q.segments))]
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
        with self._writing() as db:
            db.executemany("INSERT INTO segments VALUES (?, ?) ON CONFLICT DO NOTHING", packed)
            for query in asked:
                check_query(query)
                _insert_query(db, query)
            for vote in votes:
                self._add_vote(db, vote)

    def claim(self, annotator: str, seconds: float, key: str | None = None) -> tuple[str, Query] | None:
        """The key and the query that this annotator is to answer next, or None. It is the annotator's alone for so
        many seconds, or until voted on or released; a claim before that gives the same query again (a restarted
        program goes on where it was), so an annotator is one person at one place. The query of `key` comes first if
        it is open to the annotator."""
        with self._writing() as db:
            next_key = _lease(db, annotator, seconds, key)
        return None if next_key is None else (next_key, self.query(next_key))

    def vote_and_claim(self, vote: Vote | None, annotator: str, seconds: float, key: str | None = None) -> Asked | None:
        """Adds a vote, if there is one, and claims the annotator's next query, in one transaction: one wait for the
        disk, and no moment in between at which somebody else could take an undone query."""
        with self._writing() as db:
            if vote is not None:
                self._add_vote(db, vote)
            next_key = _lease(db, annotator, seconds, key)
            return None if next_key is None else self._read_asked(db, "WHERE key = ?", (next_key,))[0]

    def upcoming(self, annotator: str, n: int) -> list[Asked]:
        """The queries that this annotator would claim next, the first of them first. Nothing is claimed: others may
        be quicker."""
        with self._connection() as db:
            rows = db.execute(NEXT_QUERIES, {"annotator": annotator, "now": time.time(), "key": None, "n": n})
            return [self._read_asked(db, "WHERE key = ?", row)[0] for row in rows.fetchall()]

    def renew(self, annotator: str, seconds: float) -> set[str]:
        """Lets all that the annotator has claimed last for so many seconds from now; the keys of it. What has run out
        already is not among them: claim it again."""
        with self._writing() as db:
            now = time.time()
            db.execute(
                "UPDATE leases SET expires = ? WHERE annotator = ? AND expires > ?", (now + seconds, annotator, now)
            )
            rows = db.execute("SELECT query FROM leases WHERE annotator = ? AND expires > ?", (annotator, now))
            return {key for (key,) in rows}

    def release(self, query: str | None, annotator: str) -> None:
        """Gives a claimed query, or (None) all that the annotator has claimed, back unanswered."""
        with self._writing() as db:
            db.execute("DELETE FROM leases WHERE annotator = ? AND query = coalesce(?, query)", (annotator, query))

    def tally(self, annotator: str) -> Tally:
        """How far everybody is."""
        with self._connection() as db:
            now = time.time()
            row = db.execute(TALLY, {"annotator": annotator, "now": now}).fetchone()
            return Tally(*(value or 0 for value in row))

    def asked(self, key: str | None = None) -> list[Asked]:
        """All queries in the order of asking, or the one of this key."""
        with self._connection() as db:
            return self._read_asked(db) if key is None else self._read_asked(db, "WHERE key = ?", (key,))

    def query(self, key: str) -> Query:
        """A query with its clips, checked against their SHA-256."""
        found = self.asked(key)
        if not found:
            raise UserError(f"{self.path} has no query {key[:12]}")
        return found[0].query(self.segments(found[0].clips))

    def segments(self, digests: Iterable[str]) -> dict[str, Segments]:
        """The clips (L, ...) of these digests, checked against them."""
        with self._connection() as db:
            rows = {d: db.execute("SELECT arrays FROM segments WHERE digest = ?", (d,)).fetchone() for d in digests}
        return {digest: self._unpack(digest, row) for digest, row in rows.items()}

    def votes(self, after: int = 0) -> list[Vote]:
        """The history, from the vote with this number (from 0) on."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT id, query, annotator, undo, ranks, value, shown, seconds, voted, seal FROM votes "
                "WHERE id > ? ORDER BY id", (after,)
            ).fetchall()  # fmt: skip
        history = []
        for number, (row, *columns, seal) in enumerate(rows, after + 1):
            if row != number or seal != _seal(*columns):  # no row is ever deleted, so the numbers have no gaps
                raise CorruptFileError(f"{self.path}: vote {number} is damaged or missing; restore it from a copy")
            query, annotator, undo, ranks, value, shown, seconds, voted = columns
            feedback = None if undo else Feedback(order(ranks and json.loads(ranks)), annotator, seconds, value)
            history.append(Vote(query, annotator, feedback, order(shown and json.loads(shown)), voted))
        return history

    def copy_to(self, path: str | Path) -> None:
        """Makes another file with the same content."""
        if Path(path).exists():
            raise UserError(f"{path} exists already; choose another place for the copy")
        with self._connection() as db:
            db.execute("VACUUM INTO ?", (str(path),))

    def _add_vote(self, db: sqlite3.Connection, vote: Vote) -> None:
        if not isinstance(vote.query, str):
            raise UserError(f"{brief(vote.query)} is no query's key; name one that `ask` returned")
        row = db.execute("SELECT kind, size FROM queries WHERE key = ?", (vote.query,)).fetchone()
        if row is None:
            raise UserError(f"{self.path} has no query {vote.query[:12]}; ask it first")
        check_vote(vote, *row)
        _insert_vote(db, vote)
        db.execute("DELETE FROM leases WHERE query = ? AND annotator = ?", (vote.query, vote.annotator))

    def _read_asked(self, db: sqlite3.Connection, where: str = "", values: Sequence[str] = ()) -> list[Asked]:
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

    def _unpack(self, digest: str, row: tuple[bytes] | None) -> Segments:
        try:
            segment = unpack(row[0])  # type: ignore[index]
            if segment.digest() == digest:
                return segment
        except Exception:  # a damaged zip raises all sorts
            pass
        raise CorruptFileError(f"{self.path}: clip {digest[:12]} is damaged; restore the file from a copy")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one piece of work, so that many processes can share the file."""
        try:
            with closing(sqlite3.connect(self.path, timeout=self.timeout, isolation_level=None)) as db:
                # The pages of a new file: in larger ones, every clip would leave half a page empty.
                for pragma in ("page_size = 1024", "journal_mode = DELETE", "synchronous = FULL", "foreign_keys = ON"):
                    db.execute(f"PRAGMA {pragma}")
                yield db
        except sqlite3.IntegrityError as error:
            raise UserError(f"{self.path} refuses this: {error}") from error
        except (sqlite3.DatabaseError, UnicodeError) as error:  # the latter from a message about a damaged text
            kind = UserError if isinstance(error, sqlite3.OperationalError) else CorruptFileError
            raise kind(f"{self.path}: {error}; check the disk and that this is a run's feedback store") from error
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that nobody else writes beside; an exception undoes all of it."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")


def informative(feedback: Feedback) -> bool:
    """Whether there is anything to learn from: not "cannot tell"."""
    return feedback.ranks is not None or feedback.value is not None


def in_force(votes: Iterable[Vote]) -> dict[tuple[str, str], Vote]:
    """(query, annotator) -> the vote that counts, given the whole history."""
    last: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        last.pop((vote.query, vote.annotator), None)
        if vote.feedback is not None:
            last[vote.query, vote.annotator] = vote
    return last


def _lease(db: sqlite3.Connection, annotator: str, seconds: float, key: str | None) -> str | None:
    """Leases the annotator's next query; its key."""
    check_name("an annotator", annotator)  # whose vote would be refused
    now = time.time()
    row = db.execute(NEXT_QUERIES, {"annotator": annotator, "now": now, "key": key, "n": 1}).fetchone()
    if row is None:
        return None
    db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (row[0], annotator, now + seconds))
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


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _create(db: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _migrate(db: sqlite3.Connection) -> None:
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


def _insert_query(db: sqlite3.Connection, q: Asked) -> None:
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


def _insert_vote(db: sqlite3.Connection, vote: Vote) -> None:
    f = vote.feedback
    answer: tuple[Any, ...] = (1, None, None, None, None)
    if f is not None:
        size = db.execute("SELECT size FROM queries WHERE key = ?", (vote.query,)).fetchone()[0]
        ranks = None if f.ranks is None else json.dumps([int(r) for r in f.ranks])
        value, seconds = (None if x is None else float(x) for x in (f.value, f.seconds))
        shown = range(size) if vote.shown is None else (int(place) for place in vote.shown)
        answer = (0, ranks, value, json.dumps(list(shown)), seconds)
    row = _plain(vote.query, vote.annotator, *answer, float(vote.time))
    db.execute(
        "INSERT INTO votes (query, annotator, undo, ranks, value, shown, seconds, voted, seal) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, _seal(*row))
    )  # fmt: skip
