"""What the feedback store keeps: its records, its tables, and what both refuse.

The tables' constraints repeat what `check_query` and `check_vote` say with better words: they hold for whoever else
writes to the file.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_control.data import COMPARISON, CORRECTION, KINDS, RANKED, RATING, REWARD, Feedback, Query, Segments
from rlhf_control.errors import UserError

SCHEMA_VERSION = 2
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
                    WHEN kind IN ('rating', 'reward') THEN size = 1 ELSE 0 END)
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
        value REAL CHECK (value BETWEEN -1e300 AND 1e300),
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
            q.kind IN ('rating', 'reward') OR json_array_length(NEW.ranks) <> q.size
            OR (SELECT min(value) FROM json_each(NEW.ranks)) <> 0
            OR EXISTS (SELECT 1 FROM json_each(NEW.ranks) WHERE type <> 'integer' OR value >= q.size));
    END""",
    """CREATE TRIGGER possible_value BEFORE INSERT ON votes WHEN NEW.value IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'this value does not answer this query') FROM queries q WHERE q.key = NEW.query AND (
            q.kind NOT IN ('rating', 'reward') OR typeof(NEW.value) <> 'real'
            OR q.kind = 'rating' AND (NEW.value < 1 OR NEW.value <> round(NEW.value)));
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
# What an annotator is to answer next: the query of :key if it is open to them; then their own leases (they come back
# after a crash); then the oldest query that lacks both an answer and somebody's lease. Only what people judge: rewards
# are measured, demonstrations and corrections bring their answer along.
NEXT_QUERIES = """
SELECT q.key FROM queries q
LEFT JOIN leases mine ON mine.query = q.key AND mine.annotator = :annotator AND mine.expires > :now
WHERE q.kind IN ('comparison', 'ranking', 'rating')
AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.query = q.key AND a.annotator = :annotator)
AND (SELECT count(*) FROM answers a WHERE a.query = q.key)
  + (SELECT count(*) FROM leases l WHERE l.query = q.key AND l.annotator <> :annotator AND l.expires > :now)
  < q.annotators
ORDER BY q.key IS NOT :key, mine.query IS NULL, q.number LIMIT :n
"""
# Of these: answers in force, answers wanted, the annotator's own answers, and queries that others have claimed.
TALLY = """
WITH others AS (SELECT key FROM queries WHERE kind NOT IN ('comparison', 'ranking', 'rating'))
SELECT (SELECT count(*) FROM answers WHERE query NOT IN others),
       (SELECT sum(annotators) FROM queries WHERE key NOT IN others),
       (SELECT count(*) FROM answers WHERE query NOT IN others AND annotator = :annotator),
       (SELECT count(*) FROM leases WHERE annotator <> :annotator AND expires > :now)
"""

Version = int | str | None  # of a policy or a reward model: a number or a digest


@dataclass(frozen=True)
class Asked:
    """A query as it was asked, without its clips."""

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
        """The query itself, given its clips (L, ...) by digest."""
        segments = Segments.stack([clips[digest] for digest in self.clips])
        return Query(self.round, self.index, self.strategy, segments, self.kind, self.repeat)


@dataclass(frozen=True)
class Vote:
    """One line of history."""

    query: str  # its key
    annotator: str
    feedback: Feedback | None  # None takes the annotator's answer back
    shown: tuple[int, ...] | None  # the clips' places in the query, in the order shown (left first); None for an undo
    time: float  # Unix


@dataclass(frozen=True)
class Tally:
    """How far the annotators of a store are."""

    answers: int  # in force, everybody's
    wanted: int  # to all queries asked so far
    mine: int  # the annotator's own answers in force
    elsewhere: int  # queries that other annotators have before them


def query_key(query: Query) -> str:
    """What a query is known by: its clips in their order, its kind, and how often it was asked before."""
    return f"{query.segments.digest()}/{query.kind}/{query.repeat}"


def check_query(query: Asked) -> None:
    """Raises UserError for a query that nobody could answer."""
    if query.kind not in KINDS:
        raise UserError(f"'{query.kind}' is no kind of query; known: {', '.join(KINDS)}")
    size, one = len(query.clips), query.kind in (RATING, REWARD)
    if size != 1 if one else size != 2 if query.kind in (COMPARISON, CORRECTION) else size < 2:
        raise UserError(f"a {query.kind} cannot be about {size} clip{'s' * (size != 1)}")
    if min(query.repeat, query.round, query.index) < 0 or query.annotators < 1:
        raise UserError(
            f"a query of round {query.round}, place {query.index}, repeat {query.repeat} for {query.annotators} "
            "annotators cannot be asked; count from 0, and ask at least one"
        )


def check_vote(vote: Vote, kind: str, size: int) -> None:
    """Raises UserError for a vote that cannot belong to a query of this kind and number of clips."""
    feedback = vote.feedback
    if not (feedback is None or isinstance(feedback, Feedback)) or not (
        isinstance(vote.annotator, str) and vote.annotator
    ):
        raise UserError(f"{feedback!r} is no answer; an oracle must return a Feedback with its annotator's name")
    if feedback is None:
        if vote.shown is not None:
            raise UserError("an undo shows nothing")
        return
    if feedback.annotator != vote.annotator:
        raise UserError(f"{vote.annotator} cannot give the answer of {feedback.annotator}")
    if feedback.seconds is not None and not 0 <= feedback.seconds < 1e9:
        raise UserError(f"an answer cannot take {feedback.seconds} seconds")
    ranks, value = feedback.ranks, feedback.value
    if value is not None and (kind in RANKED or not _possible_value(kind, value)):
        raise UserError(
            f"the value {value} does not answer a {kind}; a rating is a whole number from 1, a reward finite"
        )
    if ranks is not None and (kind not in RANKED or not _possible_ranks(ranks, size)):
        raise UserError(
            f"ranks {ranks} do not answer a {kind} of {size} clips: give each a whole number below {size}, the best 0"
        )
    if vote.shown is not None and sorted(vote.shown) != list(range(size)):
        raise UserError(f"{vote.shown} is no order of {size} clips")


def new_vote(query: str, feedback: Feedback, shown: Sequence[int] | None = None) -> Vote:
    """An answer, given now, to the query of this key; see `FeedbackStore.vote`."""
    return Vote(query, getattr(feedback, "annotator", ""), feedback, order(shown), time.time())


def _possible_ranks(ranks: Sequence[int], size: int) -> bool:
    return len(ranks) == size and all(r == int(r) and 0 <= r < size for r in ranks) and min(ranks) == 0


def _possible_value(kind: str, value: float) -> bool:
    return abs(value) <= 1e300 and (kind == REWARD or (value == math.floor(value) and value >= 1))


def order(numbers: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(int(n) for n in numbers)
