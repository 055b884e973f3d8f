"""What the feedback store keeps: its records, its tables, and what both refuse.

The tables' constraints repeat what `check_query` and `check_vote` say with better words: they hold for whoever else
writes to the file.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from rlhf_control.data import (
    COMPARISON,
    CORRECTION,
    GROUPS,
    KINDS,
    RANKED,
    RATING,
    REWARD,
    SUCCESS,
    Array,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.errors import UserError
from rlhf_control.wording import counted

GOLD = "gold"  # the strategy of queries whose answer is known, asked to check people by
TRIED_AGAIN = "tried again"  # the strategy of corrections
TAKEN_OVER = "take-over"  # of those by an expert policy
EARLY_END = "early end"  # of those about what an end costs
AT_RANDOM = ("uniform", TRIED_AGAIN)  # strategies of queries about clips that no model chose


SCHEMA_VERSION = 4
LONGEST_LEASE = 900.0  # seconds; one that would last longer was made before the clock was set back, and is void
BEST_RATING = 100  # as `AnnotatorConfig.levels`: the likelihood keeps a threshold for each level
LARGEST_REWARD = 1e30  # of a clip, either way: its square must be finite when rewards are standardised
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS segments (
        digest TEXT PRIMARY KEY,                      -- SHA-256 of the arrays
        arrays BLOB NOT NULL                          -- see `packing`
    ) WITHOUT ROWID""",
    """CREATE TABLE queries (
        number INTEGER PRIMARY KEY,                   -- in the order of asking
        key TEXT NOT NULL UNIQUE,                     -- SHA-256 of the clips in their order, kind, repeat
        kind TEXT NOT NULL,
        repeat INTEGER NOT NULL CHECK (repeat >= 0),
        round INTEGER NOT NULL CHECK (round >= 0),
        place INTEGER NOT NULL CHECK (place >= 0),    -- within the round
        strategy TEXT NOT NULL,
        size INTEGER NOT NULL,                        -- clips
        annotators INTEGER NOT NULL CHECK (annotators >= 1),  -- who have to answer
        policy CHECK (typeof(policy) IN ('null', 'integer', 'text')),  -- version of the policy that was asked about
        reward CHECK (typeof(reward) IN ('null', 'integer', 'text')),  -- version of the reward model that chose
        asked REAL NOT NULL,                          -- Unix time
        seal TEXT NOT NULL,
        CHECK (CASE WHEN kind IN ('comparison', 'correction') THEN size = 2
                    WHEN kind IN ('ranking', 'demonstration') THEN size >= 2
                    WHEN kind = 'groups' THEN size >= 4 AND size % 2 = 0
                    WHEN kind IN ('rating', 'reward', 'success') THEN size = 1 ELSE 0 END)
    )""",
    """CREATE TABLE items (
        query TEXT NOT NULL REFERENCES queries(key),
        side INTEGER NOT NULL CHECK (side >= 0),      -- place in the query
        segment TEXT NOT NULL REFERENCES segments,
        PRIMARY KEY (query, side)
    ) WITHOUT ROWID""",
    """CREATE TABLE leases (
        query TEXT NOT NULL REFERENCES queries(key),
        annotator TEXT NOT NULL,
        expires REAL NOT NULL,                        -- Unix time
        PRIMARY KEY (query, annotator)
    ) WITHOUT ROWID""",
    """CREATE TABLE votes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,         -- the order of history
        query TEXT NOT NULL REFERENCES queries(key),
        annotator TEXT NOT NULL CHECK (annotator <> ''),
        undo INTEGER NOT NULL CHECK (undo IN (0, 1)), -- takes the annotator's answer back
        ranks TEXT,                                   -- one number a clip, 0 best; neither ranks nor value: cannot tell
        value REAL CHECK (value BETWEEN -1e30 AND 1e30),
        shown TEXT,                                   -- the clips' places in the query, in the order shown
        seconds REAL CHECK (typeof(seconds) IN ('null', 'real') AND seconds >= 0),
        voted REAL NOT NULL,                          -- Unix time
        seal TEXT NOT NULL,
        CHECK (ranks IS NULL OR value IS NULL),
        CHECK (CASE WHEN undo THEN ranks IS NULL AND value IS NULL AND shown IS NULL AND seconds IS NULL
                    ELSE shown IS NOT NULL END)
    )""",
    "CREATE INDEX by_annotator ON votes (query, annotator, id)",
    """CREATE VIEW answers AS SELECT * FROM votes v WHERE NOT undo AND NOT EXISTS (
        SELECT 1 FROM votes w WHERE w.query = v.query AND w.annotator = v.annotator AND w.id > v.id)""",
    """CREATE TRIGGER possible_ranks BEFORE INSERT ON votes WHEN NEW.ranks IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'these ranks do not answer this query') FROM queries q WHERE q.key = NEW.query AND (
            q.kind IN ('rating', 'reward', 'success') OR json_array_length(NEW.ranks) <> q.size
            OR (SELECT min(value) FROM json_each(NEW.ranks)) <> 0
            OR EXISTS (SELECT 1 FROM json_each(NEW.ranks) WHERE type <> 'integer' OR value >= q.size)
            OR q.kind = 'groups' AND EXISTS (SELECT 1 FROM json_each(NEW.ranks) WHERE value > 1 OR value <>
            json_extract(NEW.ranks, CASE WHEN key < q.size / 2 THEN '$[0]' ELSE '$[#-1]' END)));
    END""",
    """CREATE TRIGGER possible_value BEFORE INSERT ON votes WHEN NEW.value IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'this value does not answer this query') FROM queries q WHERE q.key = NEW.query AND (
            q.kind NOT IN ('rating', 'reward', 'success') OR typeof(NEW.value) <> 'real'
            OR q.kind = 'rating' AND (NOT NEW.value BETWEEN 1 AND 100 OR NEW.value <> round(NEW.value))
            OR q.kind = 'success' AND NEW.value NOT IN (0, 1));
    END""",
    """CREATE TRIGGER possible_order BEFORE INSERT ON votes WHEN NEW.shown IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'the order shown is not one of this query') FROM queries q WHERE q.key = NEW.query AND (
            json_array_length(NEW.shown) <> q.size OR q.size <> (SELECT count(DISTINCT value) FROM
            json_each(NEW.shown) WHERE type = 'integer' AND value BETWEEN 0 AND q.size - 1));
    END""",
    """CREATE TRIGGER possible_undo BEFORE INSERT ON votes WHEN NEW.undo AND NOT EXISTS (
        SELECT 1 FROM answers WHERE query = NEW.query AND annotator = NEW.annotator) BEGIN
        SELECT RAISE(ABORT, 'there is no answer to undo');
    END""",
    "CREATE TRIGGER no_update BEFORE UPDATE ON votes BEGIN SELECT RAISE(ABORT, 'votes are history'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON votes BEGIN SELECT RAISE(ABORT, 'votes are history'); END",
)
# What older stores hold: of version 3, before groups were compared; of version 2, before success marks; the same with
# wider limits, before clips were packed; and of version 1.
SCHEMA_3 = tuple(
    statement.replace("\n                    WHEN kind = 'groups' THEN size >= 4 AND size % 2 = 0", "").replace(
        """
            OR q.kind = 'groups' AND EXISTS (SELECT 1 FROM json_each(NEW.ranks) WHERE value > 1 OR value <>
            json_extract(NEW.ranks, CASE WHEN key < q.size / 2 THEN '$[0]' ELSE '$[#-1]' END)));""",
        ");",
    )
    for statement in SCHEMA
)
SCHEMA_2 = tuple(
    statement.replace("'reward', 'success')", "'reward')").replace(
        "\n            OR q.kind = 'success' AND NEW.value NOT IN (0, 1)", ""
    )
    for statement in SCHEMA_3
)
SCHEMA_BEFORE = tuple(
    statement.replace("see `packing`", ".npz")
    .replace("BETWEEN -1e30 AND 1e30", "BETWEEN -1e300 AND 1e300")
    .replace("NOT NEW.value BETWEEN 1 AND 100", "NEW.value < 1")
    for statement in SCHEMA_2
)
SCHEMA_1 = (
    """CREATE TABLE segments (
    digest TEXT PRIMARY KEY,                      -- SHA-256 of the arrays
    arrays BLOB NOT NULL                          -- .npz
) WITHOUT ROWID""",
    """CREATE TABLE queries (
    digest TEXT PRIMARY KEY,                      -- SHA-256 of the clips, in the order shown
    round INTEGER NOT NULL CHECK (round >= 0),
    place INTEGER NOT NULL CHECK (place >= 0),    -- within the round
    strategy TEXT NOT NULL,
    asked REAL NOT NULL                           -- Unix time
) WITHOUT ROWID""",
    """CREATE TABLE items (
    query TEXT NOT NULL REFERENCES queries,
    side INTEGER NOT NULL CHECK (side >= 0),      -- 0 is shown on the left
    segment TEXT NOT NULL REFERENCES segments,
    PRIMARY KEY (query, side)
) WITHOUT ROWID""",
    """CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,         -- history: the last vote on a query counts
    query TEXT NOT NULL REFERENCES queries,
    ranks TEXT CHECK (ranks IS NULL OR json_valid(ranks)),  -- one number a side, 0 best; NULL is "cannot tell"
    annotator TEXT NOT NULL,
    seconds REAL CHECK (seconds >= 0),
    voted REAL NOT NULL                           -- Unix time
)""",
)
# What an annotator is to answer next: the query of :key if it is open to them; then their own leases (they come back
# after a crash); then the oldest query that lacks both an answer and somebody's lease. Only what people judge: rewards
# are measured, demonstrations and corrections bring their answer along.
NEXT_QUERIES = f"""
SELECT q.key FROM queries q
LEFT JOIN leases mine ON mine.query = q.key AND mine.annotator = :annotator AND mine.expires > :now
WHERE q.kind IN ('comparison', 'ranking', 'rating', 'success', 'groups')
AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.query = q.key AND a.annotator = :annotator)
AND (SELECT count(*) FROM answers a WHERE a.query = q.key)
  + (SELECT count(*) FROM leases l WHERE l.query = q.key AND l.annotator <> :annotator
     AND l.expires > :now AND l.expires <= :now + {LONGEST_LEASE})
  < q.annotators
ORDER BY q.key IS NOT :key, mine.query IS NULL, q.number LIMIT :n
"""
# Of these: answers in force, answers wanted, the annotator's own answers, and queries that others have claimed.
TALLY = f"""
WITH others AS (SELECT key FROM queries WHERE kind NOT IN ('comparison', 'ranking', 'rating', 'success', 'groups'))
SELECT (SELECT count(*) FROM answers WHERE query NOT IN others),
       (SELECT sum(annotators) FROM queries WHERE key NOT IN others),
       (SELECT count(*) FROM answers WHERE query NOT IN others AND annotator = :annotator),
       (SELECT count(*) FROM leases
        WHERE annotator <> :annotator AND expires > :now AND expires <= :now + {LONGEST_LEASE})
"""

Version = int | str | None  # of a policy or a reward model: a number or a digest


@dataclass(frozen=True)
class Asked:
    """Holds a query as it was asked, without its clips."""

    key: str  # see `query_key`
    kind: str
    repeat: int
    round: int
    index: int
    strategy: str
    annotators: int  # who have to answer it
    policy: Version
    reward: Version
    time: float  # Unix
    clips: tuple[str, ...]  # SHA-256 of each

    def query(self, clips: Mapping[str, Segments]) -> Query:
        """Returns the query itself, given its clips (L, ...) by digest."""
        segments = Segments.stack([clips[digest] for digest in self.clips])
        return Query(self.round, self.index, self.strategy, segments, self.kind, self.repeat)


@dataclass(frozen=True)
class Vote:
    """Holds one line of history."""

    query: str  # its key
    annotator: str
    feedback: Feedback | None  # None takes the annotator's answer back
    shown: tuple[int, ...] | None  # the clips' places in the query, in the order shown (left first); None for an undo
    time: float  # Unix


@dataclass(frozen=True)
class Tally:
    """Says how far the annotators of a store are."""

    answers: int  # in force, everybody's
    wanted: int  # to all queries asked so far
    mine: int  # the annotator's own answers in force
    elsewhere: int  # queries that other annotators have before them


def query_key(query: Query) -> str:
    """Returns what a query is known by: its clips in their order, its kind, and how often it was asked before."""
    return f"{query.segments.digest()}/{query.kind}/{query.repeat}"


def check_query(query: Asked) -> None:
    """Raises UserError for a query that nobody could answer, or that SQLite would not give back as it is."""
    if not isinstance(query.kind, str) or query.kind not in KINDS:
        raise UserError(f"{brief(query.kind)} is no kind of query; known: {', '.join(KINDS)}")
    check_name("a query's strategy", query.strategy)
    counts = {"repeat": query.repeat, "round": query.round, "index": query.index, "annotators": query.annotators}
    versions = {"policy": query.policy, "reward": query.reward}
    for name, n in counts.items():
        if not _storable(n):
            raise UserError(f"a query's {name} cannot be {brief(n)}; give a whole number")
    for name, version in versions.items():
        if not (version is None or isinstance(version, str) or _storable(version)):
            raise UserError(f"a query's {name} cannot be {brief(version)}; give a whole number, a text or None")
    if not isinstance(query.key, str) or not _number(query.time):
        raise UserError(
            f"a query has the key {brief(query.key)} and the time {brief(query.time)}; give text and number"
        )
    size = len(query.clips)
    if query.kind in (RATING, REWARD, SUCCESS):
        possible = size == 1
    elif query.kind in (COMPARISON, CORRECTION):
        possible = size == 2
    else:
        possible = size >= 4 and size % 2 == 0 if query.kind == GROUPS else size >= 2
    if not possible:
        raise UserError(f"a {query.kind} cannot be about {counted(size, 'clip')}")
    if min(query.repeat, query.round, query.index) < 0 or query.annotators < 1:
        raise UserError(
            f"a query of round {query.round}, place {query.index}, repeat {query.repeat} for {query.annotators} "
            "annotators cannot be asked; count from 0, and ask at least one"
        )


def check_clips(clips: Segments, where: str, leading: int = 1) -> None:
    """Raises UserError for clips that nothing could be learned from. `leading` dimensions are free: 1 for (L, ...), 2
    for (K, L, ...). What the environment paid may be unknown, NaN."""
    arrays = clips.arrays()
    shape, *others = {array.shape[:leading] for array in arrays.values()}
    if others or len(shape) < leading or 0 in shape[1 - leading :] or clips.obs.shape != clips.next_obs.shape:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(f"{where}: its arrays do not go together: {listed}; give all of them the same steps")
    for name, array in arrays.items():
        if array.dtype.kind not in ("S" if name == "frames" else "biuf"):
            raise UserError(f"{where}: {name} has the type {array.dtype}; give real numbers, and frames as bytes")
        if name != "frames" and not _finite(array, unknown=name == "env_reward"):
            raise UserError(f"{where}: {name} holds NaN or infinity; leave this clip out")


def check_name(what: str, name: Any) -> None:
    """Raises UserError for what cannot be shown as a name."""
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable() or name.isspace():
        raise UserError(f"{what} cannot be {brief(name)}; give 1 to 200 printable characters, not all of them blank")


def check_vote(vote: Vote, kind: str, size: int) -> None:
    """Raises UserError for a vote that cannot belong to a query of this kind and number of clips."""
    feedback = vote.feedback
    if not (feedback is None or isinstance(feedback, Feedback)) or not (
        isinstance(vote.annotator, str) and vote.annotator
    ):
        raise UserError(f"{brief(feedback)} is no answer; an oracle must return a Feedback with its annotator's name")
    check_name("the annotator of an answer", vote.annotator)
    if not _number(vote.time):
        raise UserError(f"a vote cannot be of the time {brief(vote.time)}; give seconds since 1970")
    if feedback is None:
        if vote.shown is not None:
            raise UserError("an undo shows nothing")
        return
    if feedback.annotator != vote.annotator:
        raise UserError(f"{vote.annotator} cannot give the answer of {brief(feedback.annotator)}")
    if feedback.seconds is not None and not (_number(feedback.seconds) and 0 <= feedback.seconds < 1e9):
        raise UserError(f"an answer cannot take {brief(feedback.seconds)} seconds")
    ranks, value = feedback.ranks, feedback.value
    if value is not None and (kind in RANKED or not _possible_value(kind, value)):
        raise UserError(
            f"the value {brief(value)} does not answer a {kind}; a rating is a whole number from 1 to {BEST_RATING}, a "
            f"reward a number within {LARGEST_REWARD:g}, a success 1 and a failure 0"
        )
    if ranks is not None and (kind not in RANKED or not _possible_ranks(kind, ranks, size)):
        what = "all clips of a group the same, 0 or 1" if kind == GROUPS else f"each a whole number below {size}"
        raise UserError(f"ranks {brief(ranks)} do not answer a {kind} of {size} clips: give {what}, the best 0")
    if vote.shown is not None and not (_places(vote.shown, size) and sorted(vote.shown) == list(range(size))):
        raise UserError(f"{brief(vote.shown)} is no order of {size} clips")


def new_vote(query: str, feedback: Feedback, shown: Sequence[int] | None = None) -> Vote:
    """Makes a vote of an answer, given now, to the query of this key; see `FeedbackStore.vote`."""
    return Vote(query, getattr(feedback, "annotator", ""), feedback, order(shown), time.time())


def order(numbers: Sequence[int] | None) -> tuple[int, ...] | None:
    if numbers is None:
        return None
    if not _places(numbers, math.inf):
        raise UserError(f"{brief(numbers)} is no order of clips; give their places, whole numbers from 0")
    return tuple(int(n) for n in numbers)


def brief(value: Any) -> str:
    """Shortens whatever it is to at most 100 characters, for an error's one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of more digits than Python prints, an object that cannot describe itself
        text = f"this {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _number(value: Any) -> bool:
    """A finite one that SQLite can hold."""
    try:
        return isinstance(value, Real) and abs(float(value)) <= 1e300  # NaN is not
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _places(numbers: Any, size: float) -> bool:
    """Whether these are whole numbers from 0 to below `size`, in an order: no text, no set, no dict."""
    if not isinstance(numbers, Sequence | Array) or isinstance(numbers, bytes) or getattr(numbers, "ndim", 1) != 1:
        return False
    return all(_number(n) and 0 <= n < size and n == int(n) for n in numbers)


def _storable(number: Any) -> bool:
    """Whether SQLite gives this whole number back as it is: no bool, nothing of 64 bits or more."""
    return type(number) is int and abs(number) < 2**63


def _finite(array: Array, *, unknown: bool) -> bool:
    """`unknown`: NaN is no fault."""
    return bool((np.isfinite(array) | (np.isnan(array) & unknown)).all())


def _possible_ranks(kind: str, ranks: Sequence[int], size: int) -> bool:
    if not (_places(ranks, size) and len(ranks) == size and min(ranks) == 0):
        return False
    return kind != GROUPS or (len({*ranks[: size // 2]}) == len({*ranks[size // 2 :]}) == 1 and max(ranks) <= 1)


def _possible_value(kind: str, value: float) -> bool:
    if not _number(value):
        return False
    value = float(value)
    if kind == SUCCESS:
        return value in (0.0, 1.0)
    return abs(value) <= LARGEST_REWARD if kind == REWARD else 1 <= value <= BEST_RATING and value.is_integer()
