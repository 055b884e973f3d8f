"""The feedback store: queries with their clips by value, and the votes. One SQLite file in the run's folder.

A vote is on the disk before `add` returns. Journal mode DELETE: SQLite's WAL had a corruption bug before 3.51.3
and fails on network file systems.
"""

import io
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE segments (
    digest TEXT PRIMARY KEY,                      -- SHA-256 of the arrays
    arrays BLOB NOT NULL                          -- .npz
) WITHOUT ROWID;
CREATE TABLE queries (
    digest TEXT PRIMARY KEY,                      -- SHA-256 of the clips, in the order shown
    round INTEGER NOT NULL CHECK (round >= 0),
    place INTEGER NOT NULL CHECK (place >= 0),    -- within the round
    strategy TEXT NOT NULL,
    asked REAL NOT NULL                           -- Unix time
) WITHOUT ROWID;
CREATE TABLE items (
    query TEXT NOT NULL REFERENCES queries,
    side INTEGER NOT NULL CHECK (side >= 0),      -- 0 is shown on the left
    segment TEXT NOT NULL REFERENCES segments,
    PRIMARY KEY (query, side)
) WITHOUT ROWID;
CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,         -- history: the last vote on a query counts
    query TEXT NOT NULL REFERENCES queries,
    ranks TEXT CHECK (ranks IS NULL OR json_valid(ranks)),  -- one number a side, 0 best; NULL is "cannot tell"
    annotator TEXT NOT NULL,
    seconds REAL CHECK (seconds >= 0),
    voted REAL NOT NULL                           -- Unix time
);
"""


class FeedbackStore:
    """Open with a path; the file is made when it is missing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise UserError(f"cannot open {self.path}: its folder does not exist")
        with self._connection() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise UserError(
                    f"{self.path} has schema version {version}, this program reads {SCHEMA_VERSION}; "
                    "use the version of rlhf_control that wrote it"
                )

    def ask(self, queries: Sequence[Query]) -> None:
        """Stores the queries. One that is there already (a resumed run asks again) is left as it is."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            for query in queries:
                key = query.segments.digest()
                row = (key, query.round, query.index, query.strategy, time.time())
                db.execute("INSERT OR IGNORE INTO queries VALUES (?, ?, ?, ?, ?)", row)
                for side in range(len(query.segments)):
                    segment = query.segments[side]
                    digest = segment.digest()
                    db.execute("INSERT OR IGNORE INTO segments VALUES (?, ?)", (digest, _pack(segment)))
                    db.execute("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", (key, side, digest))
            db.execute("COMMIT")

    def vote(self, query: str, feedback: Feedback) -> None:
        """Commits one answer to the query of this digest."""
        with self._connection() as db:
            sides = db.execute("SELECT count(*) FROM items WHERE query = ?", (query,)).fetchone()[0]
            if sides == 0:
                raise UserError(f"{self.path} has no query {query[:12]}; ask it first")
            check_feedback(feedback, sides)
            ranks = None if feedback.ranks is None else json.dumps([int(r) for r in feedback.ranks])
            row = (query, ranks, feedback.annotator, feedback.seconds, time.time())
            db.execute("INSERT INTO votes (query, ranks, annotator, seconds, voted) VALUES (?, ?, ?, ?, ?)", row)

    def answer(self, query: str) -> Feedback | None:
        """The last vote on the query of this digest, or None if there is none yet."""
        with self._connection() as db:
            row = db.execute(
                "SELECT ranks, annotator, seconds FROM votes WHERE query = ? ORDER BY id DESC LIMIT 1", (query,)
            ).fetchone()
        if row is None:
            return None
        return Feedback(None if row[0] is None else tuple(json.loads(row[0])), row[1], row[2])

    def query(self, digest: str) -> Query:
        """A query with its clips, checked against their SHA-256."""
        with self._connection() as db:
            row = db.execute("SELECT round, place, strategy FROM queries WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                raise UserError(f"{self.path} has no query {digest[:12]}")
            items = db.execute(
                "SELECT s.digest, s.arrays FROM items i JOIN segments s ON s.digest = i.segment "
                "WHERE i.query = ? ORDER BY i.side", (digest,)
            ).fetchall()  # fmt: skip
        label_round, place, strategy = row
        return Query(label_round, place, strategy, Segments.stack([self._unpack(name, blob) for name, blob in items]))

    def digests(self) -> list[str]:
        """Every query's digest, in the order of round and place."""
        with self._connection() as db:
            return [row[0] for row in db.execute("SELECT digest FROM queries ORDER BY round, place")]

    def _unpack(self, digest: str, blob: bytes) -> Segments:
        try:
            with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
                segment = Segments(**{name: archive[name] for name in archive.files})
            if segment.digest() == digest:
                return segment
        except Exception:  # a damaged zip raises all sorts
            pass
        raise CorruptFileError(f"{self.path}: clip {digest[:12]} is damaged; restore the file from a copy")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one piece of work, so that many processes can share the file."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
                for pragma in ("journal_mode = DELETE", "synchronous = FULL", "foreign_keys = ON"):
                    db.execute(f"PRAGMA {pragma}")
                yield db
        except sqlite3.DatabaseError as error:
            kind = UserError if isinstance(error, sqlite3.OperationalError) else CorruptFileError
            raise kind(f"{self.path}: {error}; check the disk and that this is a run's feedback store") from error
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror}") from error


def check_feedback(feedback: Feedback, sides: int) -> None:
    """Raises UserError for an answer that cannot belong to a query of this many clips."""
    if not isinstance(feedback, Feedback) or not isinstance(feedback.annotator, str):
        raise UserError(f"{feedback!r} is no answer; an oracle must return a Feedback with its annotator's name")
    if feedback.seconds is not None and not 0 <= feedback.seconds < 1e9:
        raise UserError(f"an answer cannot take {feedback.seconds} seconds")
    ranks = feedback.ranks
    if ranks is not None and (len(ranks) != sides or any(r != int(r) for r in ranks) or min(ranks) != 0):
        raise UserError(f"ranks {ranks} do not answer a query of {sides} clips: give each a whole number, the best 0")


def _pack(segment: Segments) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **segment.arrays())
    return buffer.getvalue()
