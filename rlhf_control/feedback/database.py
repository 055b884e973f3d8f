"""The feedback store's SQLite file: how it is opened, what it is held to before anything in it is used, and how long a
lock is waited for.

A file from elsewhere can hold SQL of its own (a trigger that swallows votes, a view without end), so nothing is run
before the schema is, to the letter, one that this program wrote: https://www.sqlite.org/security.html.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.schema import SCHEMA, SCHEMA_1, SCHEMA_2, SCHEMA_3, SCHEMA_BEFORE, SCHEMA_VERSION
from rlhf_control.runs.files import refuse_foreign

HEADER = 100  # bytes; no SQLite file is shorter, and SQLite takes one of a single byte for a new one
MAGIC = b"SQLite format 3\0"
ATTEMPT_SECONDS = 1.0  # SQLite waits for a lock by itself; then it is seen to what goes on meanwhile
RETRY_SECONDS = 0.01  # where SQLite does not wait by itself
COMPUTING_SECONDS = 60.0  # of the processor, for one connection's work: a damaged file could keep SQLite busy for ever
STEPS = 100_000  # of SQLite's virtual machine between two looks at the clock
PRAGMAS = (
    "page_size = 1024",  # of a new file: in larger pages, every clip would leave half a page empty
    "cell_size_check = ON",
    "foreign_keys = ON",
    "synchronous = EXTRA",  # as FULL, and the folder is synced after the journal is unlinked: a vote is never undone
    "journal_mode = DELETE",  # WAL had a corruption bug before SQLite 3.51.3 and fails on network file systems
)
REFERENCES = (  # what each row of a table names, in words, and where that is
    ("items", "query", "query", "queries", "key"),
    ("items", "segment", "clip", "segments", "digest"),
    ("leases", "query", "query", "queries", "key"),
    ("votes", "query", "query", "queries", "key"),
)
DAMAGED = "restore it from a copy"
Connection = sqlite3.Connection
Rows = frozenset[tuple[Any, ...]]
T = TypeVar("T")


class Database:
    """Holds a path and its connections, one for each piece of work, so that many processes can share the file.

    While another process keeps the file locked, work waits for it. After `timeout` seconds that is said, once; where
    nobody is `patient`, it is a UserError instead. `while_locked` is called about every second of waiting, and may
    raise to give up; `locked` is for whoever looks on from another thread.
    """

    def __init__(self, path: Path, timeout: float, patient: bool = True) -> None:
        self.path, self.timeout, self.patient = path, timeout, patient
        self.may_create = True  # the file, where there is none
        self.first_schema = False  # of version 1: until it is brought to ours
        self.while_locked: Callable[[], None] = lambda: None
        self._locked_since: float | None = None

    def locked(self, seconds: float) -> bool:
        """Tells whether work has been waiting for another process for so long."""
        since = self._locked_since
        return since is not None and time.monotonic() - since > seconds

    def hurry(self, seconds: float) -> None:
        """Waits, from now on, for a lock no longer than this."""
        self.timeout, self.patient = seconds, False

    @contextmanager
    def reading(self, check: Callable[[Connection], None] | None = None) -> Iterator[Connection]:
        """Gives one state of the file, whoever writes meanwhile. `check` (default: `check_schema`) comes before all
        use."""
        with self._transaction("BEGIN", check) as db:
            yield db

    @contextmanager
    def writing(self, check: Callable[[Connection], None] | None = None) -> Iterator[Connection]:
        """Gives one transaction that nobody else writes beside; an exception undoes all of it."""
        with self._transaction("BEGIN IMMEDIATE", check) as db:
            yield db

    def copy_to(self, path: Path) -> None:
        """Makes another file with the same content."""
        with self._connection() as db:
            self._patiently(lambda: check_schema(db, self.path))
            self._patiently(lambda: db.execute("VACUUM INTO ?", (str(path),)))

    @contextmanager
    def _transaction(self, begin: str, check: Callable[[Connection], None] | None) -> Iterator[Connection]:
        checked = check or (lambda db: check_schema(db, self.path))
        with self._connection() as db:
            self._patiently(lambda: _begin(db, begin, checked))
            yield db
            self._patiently(lambda: db.execute("COMMIT"))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        attempt = min(self.timeout, ATTEMPT_SECONDS)
        try:
            refuse_foreign(self.path)
            uri = f"{self.path.absolute().as_uri()}?mode={'rwc' if self.may_create else 'rw'}"
            with closing(sqlite3.connect(uri, timeout=attempt, isolation_level=None, uri=True)) as db:
                begun = time.thread_time()
                db.set_progress_handler(lambda: time.thread_time() - begun > COMPUTING_SECONDS, STEPS)
                # SQLite 3.40 holds JSON unsafe, which version 1 checks its rows by, and the triggers of now theirs
                trusted = f"trusted_schema = {'ON' if self.first_schema else 'OFF'}"
                self._patiently(lambda: [db.execute(f"PRAGMA {pragma}") for pragma in (trusted, *PRAGMAS)])
                yield db
        except sqlite3.IntegrityError as error:
            raise UserError(f"{self.path} refuses this: {error}") from error
        except (sqlite3.DatabaseError, UnicodeError) as error:  # the latter from a message about a damaged text
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise CorruptFileError(
                    f"{self.path} took more than {COMPUTING_SECONDS:g} s of computing; it is damaged: {DAMAGED}"
                ) from error
            kind = UserError if isinstance(error, sqlite3.OperationalError) else CorruptFileError
            said = " ".join(str(error).split())[:200]  # it may quote the file
            raise kind(f"{self.path}: {said}; check the disk and that this is a run's feedback store") from error
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror}") from error

    def _patiently(self, work: Callable[[], T]) -> T:
        """Does it as soon as no other process has the file locked."""
        begun, said = time.monotonic(), False
        try:
            while True:
                try:
                    return work()
                except sqlite3.OperationalError as error:
                    if _code(error) != sqlite3.SQLITE_BUSY:
                        raise
                self._locked_since = begun
                waited = time.monotonic() - begun
                if waited >= self.timeout and not self.patient:
                    raise UserError(f"{self.path} is locked by another program for {waited:.0f} s; close that one")
                if waited >= self.timeout and not said:
                    said = True
                    tell(f"{self.path} is locked by another program; waiting for it (nothing is lost meanwhile)")
                self.while_locked()
                time.sleep(RETRY_SECONDS)
        finally:
            self._locked_since = None
            if said:
                tell(f"{self.path}: waited {time.monotonic() - begun:.0f} s for its lock")


def tell(text: str) -> None:
    """Tells the person at the terminal."""
    print(f"rlhf-control: {text}", file=sys.stderr, flush=True)


def check_file(path: Path) -> int:
    """Returns the schema version of an existing file, 0 if there is none yet. Raises UserError if it cannot be a store
    by its first bytes: SQLite would already change some files by opening them."""
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER)
            size = file.seek(0, 2)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    if not size:
        return 0
    if size < HEADER:
        raise CorruptFileError(f"{path} is damaged (cut to {size} bytes); {DAMAGED}")
    if not header.startswith(MAGIC):
        return 0  # SQLite says so, without changing it
    version = int.from_bytes(header[60:64], "big")
    if version > SCHEMA_VERSION:
        raise _of_another(path, version)
    if 2 in header[18:20]:  # in WAL mode, so it was not left by us: opened for writing, it would be changed
        uri = f"{path.absolute().as_uri()}?immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as db:
                check_schema(db, path, version or SCHEMA_VERSION)
        except sqlite3.DatabaseError as error:
            raise CorruptFileError(f"{path}: {' '.join(str(error).split())[:200]}; {DAMAGED}") from error
    return version


def version_of(db: Connection) -> int:
    """Returns the schema's version, which is 0 in a file that was just made."""
    return db.execute("PRAGMA user_version").fetchone()[0]


def check_schema(db: Connection, path: Path, version: int = SCHEMA_VERSION) -> None:
    """Raises UserError unless tables, indexes, views and triggers are those of this version, to the letter."""
    found = _schema(db)
    if any(found == known for known in _known(version)):
        db.execute("PRAGMA trusted_schema = ON")  # it is ours
        return
    if not 1 <= version_of(db) <= SCHEMA_VERSION:
        raise _of_another(path, version_of(db))
    known = frozenset().union(*_known(version))
    other = sorted(f"{kind} {str(name)[:60]!r}" for kind, name, *_ in found - known)
    lacking = sorted({f"{kind} {name}" for kind, name, *_ in known} - {f"{kind} {name}" for kind, name, *_ in found})
    what = [f"holds SQL that is not ours ({', '.join(other)[:200]})"] * bool(other)
    what += [f"lacks {', '.join(lacking)[:200]}"] * bool(lacking)
    what = what or ["mixes the tables of several versions"]
    raise CorruptFileError(f"{path} {' and '.join(what)}; it is damaged, or was altered: {DAMAGED}")


def check_content(db: Connection, path: Path) -> None:
    """Raises CorruptFileError if an index, a counter or a reference does not fit the rows, or a row is missing. (The
    rows' own content is under their seals.)"""
    problem = " ".join(str(db.execute("PRAGMA integrity_check(1)").fetchone()[0]).split())
    if problem != "ok":
        raise CorruptFileError(f"{path} is damaged ({problem}); {DAMAGED}")
    for table, column, what, there, key in REFERENCES:
        named = f"SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT {key} FROM {there}) LIMIT 1"
        for (name,) in db.execute(named):
            raise CorruptFileError(f"{path} is damaged ({what} {str(name)[:12]} is missing); {DAMAGED}")
    _check_numbers(path, "query", db.execute("SELECT number FROM queries ORDER BY number").fetchall())
    votes = db.execute("SELECT id FROM votes ORDER BY id").fetchall()
    _check_numbers(path, "vote", votes)
    counter = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    if counter != ({"votes": len(votes)} if votes else {}):
        raise CorruptFileError(
            f"{path} is damaged (votes counted: {str(counter.get('votes', 0))[:40]}, there: {len(votes)}); {DAMAGED}"
        )


def _check_numbers(path: Path, what: str, rows: Sequence[tuple[int]]) -> None:
    """None is ever deleted, so they have no gaps."""
    for number, (found,) in enumerate(rows, 1):
        if found != number:
            raise CorruptFileError(f"{path} is damaged ({what} {number} is missing); {DAMAGED}")


def _of_another(path: Path, version: int) -> UserError:
    return UserError(
        f"{path} has schema version {version}, this program reads 1 to {SCHEMA_VERSION}; use the version of "
        "rlhf_control that wrote it, if it is a feedback store at all"
    )


def _code(error: Exception) -> int:
    """SQLite's primary result code; Python's own errors have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _begin(db: Connection, statement: str, check: Callable[[Connection], None]) -> None:
    """Begins a transaction, which holds what is checked here."""
    try:
        db.execute(statement)
        check(db)
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _schema(db: Connection) -> Rows:
    return frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


@cache
def _known(version: int) -> tuple[Rows, ...]:
    """What `_schema` finds in the stores of a version, as SQLite itself says it. Those of before had other limits on
    values and another comment on clips, and a store that came from them keeps these tables."""
    if version == 1:
        return (_made(SCHEMA_1),)
    latest = {2: SCHEMA_2, 3: SCHEMA_3}.get(version, SCHEMA)
    first_tables = (SCHEMA[0], SCHEMA_BEFORE[0], SCHEMA_1[0])
    votes = next(i for i, statement in enumerate(SCHEMA) if statement.startswith("CREATE TABLE votes"))
    wide = (*latest[1:votes], SCHEMA_BEFORE[votes], *latest[votes + 1 :])
    others = (latest[1:], SCHEMA_BEFORE[1:] if version == 2 else wide)
    return tuple(_made((first, *rest)) for rest in others for first in first_tables)


def _made(statements: tuple[str, ...]) -> Rows:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements:
            db.execute(statement)
        return _schema(db)
