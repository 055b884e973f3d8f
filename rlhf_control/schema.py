"""The tables of the feedback store, and what they refuse.

The constraints repeat what `store` checks with better words: they hold for whoever else writes to the file.
"""

SCHEMA_VERSION = 2
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS segments (
        digest TEXT PRIMARY KEY,                      -- SHA-256 of the arrays
        arrays BLOB NOT NULL                          -- .npz
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
# The annotator's own lease first (it comes back after a crash), then the oldest query that lacks an answer and a lease.
NEXT_QUERY = """
SELECT q.key FROM queries q
LEFT JOIN leases mine ON mine.query = q.key AND mine.annotator = :annotator AND mine.expires > :now
WHERE NOT EXISTS (SELECT 1 FROM answers a WHERE a.query = q.key AND a.annotator = :annotator)
AND (SELECT count(*) FROM answers a WHERE a.query = q.key)
  + (SELECT count(*) FROM leases l WHERE l.query = q.key AND l.annotator <> :annotator AND l.expires > :now)
  < q.annotators
ORDER BY mine.query IS NULL, q.number LIMIT 1
"""
