import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import random_segments

from rlhf_control.data import Feedback, Query
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.store import FeedbackStore


def make_queries(n: int, seed: int = 0) -> list[Query]:
    rng = np.random.default_rng(seed)
    return [Query(0, i, "uniform", random_segments(rng, 2, 5)) for i in range(n)]


def test_queries_come_back_by_value(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    queries = make_queries(3)
    store.ask(queries)
    store.ask(queries)  # a resumed run asks again
    assert store.digests() == [q.segments.digest() for q in queries]
    again = FeedbackStore(tmp_path / "labels.sqlite").query(queries[1].segments.digest())
    assert again.segments.digest() == queries[1].segments.digest()
    assert (again.round, again.index, again.strategy) == (0, 1, "uniform")


def test_the_last_vote_counts_and_the_first_stays(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    query = make_queries(1)[0]
    store.ask([query])
    key = query.segments.digest()
    assert store.answer(key) is None
    for ranks in [(0, 1), (0, 0), None]:
        store.vote(key, Feedback(ranks, "me", 1.5))
        assert store.answer(key) == Feedback(ranks, "me", 1.5)
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT count(*) FROM votes").fetchone() == (3,)
    db.close()


@pytest.mark.parametrize("ranks", [(0,), (0, 1, 2), (1, 2), (-1, 0), (0, 0.5)])
def test_impossible_votes_are_refused(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    query = make_queries(1)[0]
    store.ask([query])
    with pytest.raises(UserError, match="ranks"):
        store.vote(query.segments.digest(), Feedback(ranks, "me"))
    with pytest.raises(UserError, match="no query"):
        store.vote("0" * 64, Feedback((0, 1), "me"))


@pytest.mark.parametrize(
    "answer",
    [None, (0, 1), Feedback((0, 1), None), Feedback((0, 1), "me", -1.0)],  # type: ignore[arg-type]
)
def test_what_is_no_answer_is_refused(tmp_path: Path, answer: object) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    query = make_queries(1)[0]
    store.ask([query])
    with pytest.raises(UserError, match="answer"):
        store.vote(query.segments.digest(), answer)  # type: ignore[arg-type]


def test_a_store_does_not_make_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder does not exist"):
        FeedbackStore(tmp_path / "gone" / "labels.sqlite")


def test_a_damaged_clip_is_named(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    query = make_queries(1)[0]
    store.ask([query])
    with sqlite3.connect(store.path) as db:
        blob = bytearray(db.execute("SELECT arrays FROM segments").fetchone()[0])
        blob[len(blob) // 2] ^= 1
        db.execute("UPDATE segments SET arrays = ?", (bytes(blob),))
    db.close()
    with pytest.raises(CorruptFileError, match="damaged"):
        store.query(query.segments.digest())


def test_files_that_are_no_store(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(CorruptFileError, match=r"labels\.sqlite"):
        FeedbackStore(path)
    path.unlink()
    FeedbackStore(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="schema version 99"):
        FeedbackStore(path)


@pytest.mark.slow
def test_kill_9_loses_no_vote(tmp_path: Path) -> None:
    """A child votes and reports each vote through a pipe after it is committed; then it is killed."""
    store = FeedbackStore(tmp_path / "labels.sqlite")
    query = make_queries(1)[0]
    store.ask([query])
    key = query.segments.digest()
    rng = np.random.default_rng(0)
    promised = 0
    for _ in range(20):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            while True:
                store.vote(key, Feedback((0, 1), "child"))
                os.write(writing, b".")
        os.close(writing)
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            promised += len(pipe.read())
        with sqlite3.connect(store.path) as db:
            assert db.execute("SELECT count(*) FROM votes").fetchone()[0] >= promised
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
    assert promised > 20
