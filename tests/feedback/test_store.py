import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.data import (
    COMPARISON,
    DEMONSTRATION,
    GROUPS,
    RANKING,
    RATING,
    REWARD,
    SUCCESS,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.packing import pack
from rlhf_control.feedback.schema import (
    SCHEMA_1,
    SCHEMA_2,
    SCHEMA_3,
    SCHEMA_BEFORE,
    Asked,
    Tally,
    Vote,
    new_vote,
    query_key,
)
from rlhf_control.feedback.store import FeedbackStore, _insert_query, _insert_vote, in_force
from tests.conftest import random_segments
from tests.feedback.stores import make_queries, make_store

FIRST, SECOND = Feedback((0, 1), "me", 1.5), Feedback((1, 0), "me", 0.5)


@contextmanager
def sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def answers(store: FeedbackStore) -> dict[tuple[str, str], Feedback | None]:
    return {place: vote.feedback for place, vote in in_force(store.votes()).items()}


def test_queries_come_back_by_value(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    queries = [*make_queries(3), *make_queries(2, 1, RANKING, 4), *make_queries(1, 2, RATING, 1)]
    asked = store.ask(queries, annotators=2, policy=7, reward="abc")
    store.ask(queries, policy=8)  # a resumed run asks again
    again = FeedbackStore(tmp_path / "labels.sqlite")
    assert again.asked() == asked and [a.key for a in asked] == [query_key(q) for q in queries]
    assert (asked[3].kind, asked[3].annotators, asked[3].policy, asked[3].reward) == (RANKING, 2, 7, "abc")
    for query in queries:
        found = again.query(query_key(query))
        assert found.segments.digest() == query.segments.digest()
        assert (found.round, found.index, found.strategy, found.kind) == (0, query.index, "uniform", query.kind)
    with pytest.raises(UserError, match="no query"):
        again.query("0" * 64)


def test_the_same_clips_can_be_asked_again_and_as_another_kind(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    clips = make_queries(1)[0].segments
    store.ask([Query(r, 0, "uniform", clips, kind, r) for kind in (COMPARISON, RANKING) for r in range(2)])
    assert len({a.key for a in store.asked()}) == 4
    with sqlite(store.path) as db:
        assert db.execute("SELECT count(*) FROM segments").fetchone() == (2,)  # by value, once


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (COMPARISON, 3),
        (RANKING, 1),
        (DEMONSTRATION, 1),
        (RATING, 2),
        (REWARD, 2),
        (SUCCESS, 2),
        (GROUPS, 5),
        ("wish", 1),
    ],
)
def test_impossible_queries_are_refused(tmp_path: Path, kind: str, size: int) -> None:
    with pytest.raises(UserError, match=kind):
        FeedbackStore(tmp_path / "labels.sqlite").ask([*make_queries(1), *make_queries(1, 1, kind, size)])
    assert FeedbackStore(tmp_path / "labels.sqlite").asked() == []  # all or nothing


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"strategy": 5}, "strategy cannot be 5"),
        ({"strategy": None}, "strategy cannot be None"),
        ({"strategy": ""}, "strategy"),
        ({"strategy": "a\nb"}, r"strategy cannot be 'a\\nb'"),
        ({"strategy": "s" * 201}, "200 printable"),
        ({"kind": 5}, "5 is no kind"),
        ({"kind": None}, "None is no kind"),
        ({"round": 0.0}, "round cannot be 0.0"),
        ({"round": 2**63}, "round"),
        ({"index": "0"}, "index cannot be '0'"),
        ({"repeat": True}, "repeat cannot be True"),
        ({"repeat": None}, "repeat"),
    ],
)
def test_queries_of_wrong_types_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    """SQLite would keep some of them as something else, and the seal would never match again."""
    store = FeedbackStore(tmp_path / "labels.sqlite")
    with pytest.raises(UserError, match=words):
        store.ask([*make_queries(1), replace(make_queries(1, 1)[0], **changed)])
    assert store.asked() == []


@pytest.mark.parametrize(
    "options", [{"annotators": "1"}, {"annotators": True}, {"policy": 1.5}, {"policy": True}, {"reward": 2**64}]
)
def test_askers_of_wrong_types_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    with pytest.raises(UserError, match=next(iter(options))):
        store.ask(make_queries(1), **options)
    assert store.asked() == []


def test_numbers_and_texts_of_numpy_are_kept_as_pythons(tmp_path: Path) -> None:
    store, name = FeedbackStore(tmp_path / "labels.sqlite"), np.str_("uniform")
    clips = make_queries(1)[0].segments
    query = Query(np.int64(1), np.int32(2), name, clips, COMPARISON, np.int64(3))  # type: ignore[arg-type]
    (asked,) = store.ask([query], annotators=np.int64(2), policy=np.int64(7), reward=np.str_("abc"))  # type: ignore[arg-type]
    store.vote(asked.key, Feedback(np.array([1, 0]), np.str_("me"), np.float32(1.5)), np.array([1, 0]))  # type: ignore[arg-type]
    (found,), (vote,) = store.asked(), store.votes()
    assert found == asked and (found.round, found.index, found.repeat, found.annotators, found.policy) == (
        1,
        2,
        3,
        2,
        7,
    )
    assert vote.feedback == Feedback((1, 0), "me", 1.5) and vote.shown == (1, 0)


def test_minus_zero_is_a_reward(tmp_path: Path) -> None:
    """SQLite gives it back as 0.0, and the seal must be of that."""
    store = FeedbackStore(tmp_path / "labels.sqlite")
    (asked,) = store.ask(make_queries(1, kind=REWARD, size=1))
    store.vote(asked.key, Feedback(None, "me", -0.0, value=-0.0))
    assert store.votes()[0].feedback == Feedback(None, "me", 0.0, value=0.0)


@pytest.mark.parametrize("name", ["obs", "action", "next_obs", "env_reward", "state"])
def test_clips_that_nothing_could_be_learned_from_are_refused(tmp_path: Path, name: str) -> None:
    store, (query,) = FeedbackStore(tmp_path / "labels.sqlite"), make_queries(1)
    whole = query.segments.arrays()
    infinite = np.full_like(whole[name], np.inf)
    for array, words in (
        (infinite, "infinity"),
        (whole[name][:, 1:], "the same steps"),
        (whole[name][1:], "the same steps"),
        (whole[name].astype(complex), "complex128"),
        (whole[name].astype(object), "object"),
    ):
        changed = Segments(**whole | {name: array})
        with pytest.raises(UserError, match=f"query 0 of round 0: .*{name}.*{words}"):
            store.ask([replace(query, segments=changed)])
        part = {n: a[0] for n, a in (whole | {name: array}).items()}
        if words != "the same steps":
            with pytest.raises(UserError, match=f"clip abc: .*{name}.*{words}"):
                store.add(clips={"abc": Segments(**part)})
    blind = replace(query.segments, env_reward=np.full((2, 5), np.nan, np.float32))
    assert len(store.ask([replace(query, segments=blind)])) == 1  # nobody knows what the environment paid


def test_the_last_vote_counts_and_the_first_stays(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    for feedback in (FIRST, SECOND, Feedback(None, "me", 3.0)):
        store.vote(key, feedback, shown=[1, 0])
        assert answers(store) == {(key, "me"): feedback}
    store.vote(key, Feedback((0, 0), "you"))
    assert answers(store) == {(key, "me"): Feedback(None, "me", 3.0), (key, "you"): Feedback((0, 0), "you")}
    assert [vote.shown for vote in store.votes()] == [(1, 0), (1, 0), (1, 0), (0, 1)]
    assert store.votes(after=3) == store.votes()[3:]


def test_an_undo_is_one_more_row(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    with pytest.raises(UserError, match="no answer to undo"):
        store.undo(key, "me")
    store.vote(key, FIRST)
    with pytest.raises(UserError, match="no answer to undo"):
        store.undo(key, "you")
    store.undo(key, "me")
    assert answers(store) == {} and len(store.votes()) == 2
    store.vote(key, SECOND)
    assert [vote.feedback for vote in store.votes()] == [FIRST, None, SECOND]


@pytest.mark.parametrize(
    "ranks",
    [
        *((0,), (0, 1, 2), (1, 2), (-1, 0), (0, 0.5), (0, 2), (0, float("nan")), (float("inf"), 0), (None, 0), 5),
        *((0, [1]), {0: 1, 1: 1}, {0, 1}, "01", b"\0\1", (0, 10**400), np.array(0), np.array([[0, 1]]), (0, 1j)),
    ],
)
def test_impossible_ranks_are_refused(tmp_path: Path, ranks: Any) -> None:
    store, (key,) = make_store(tmp_path)
    with pytest.raises(UserError, match="ranks") as refusal:
        store.vote(key, Feedback(ranks, "me"))
    assert len(str(refusal.value)) < 250 and "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="no query"):
        store.vote("0" * 64, FIRST)
    assert store.votes() == []


@pytest.mark.parametrize("shown", [(0, 1.7), "10", (1, None), 5, {0: 0, 1: 1}, (0, 0), (0, -1), (0, float("nan"))])
def test_impossible_orders_are_refused(tmp_path: Path, shown: Any) -> None:
    store, (key,) = make_store(tmp_path)
    with pytest.raises(UserError, match="is no order"):
        store.vote(key, FIRST, shown=shown)
    with pytest.raises(UserError, match="is no order"):
        store.add(votes=[Vote(key, "me", FIRST, shown, 1.0)])
    assert store.votes() == []


@pytest.mark.parametrize("value", ["3", [3], None, 1e8, 1e15, 1e300, 101, 3j])
def test_ratings_that_are_no_rating_are_refused(tmp_path: Path, value: Any) -> None:
    """The largest rating decides how many thresholds a fit has."""
    store = FeedbackStore(tmp_path / "labels.sqlite")
    rating, reward = (store.ask(make_queries(1, i, kind, 1))[0].key for i, kind in enumerate((RATING, REWARD)))
    if value is not None:
        with pytest.raises(UserError, match="a rating is a whole number from 1 to 100"):
            store.vote(rating, Feedback(None, "me", value=value))
    for far in (1.1e30, -1e200, "3", [3], 10**5000):
        with pytest.raises(UserError, match="a reward a number within"):
            store.vote(reward, Feedback(None, "me", value=far))  # type: ignore[arg-type]
    store.vote(rating, Feedback(None, "me", value=100))
    store.vote(reward, Feedback(None, "me", value=-1e30))


@pytest.mark.parametrize("key", [None, 5, ["a"], b"a"])
def test_keys_that_are_none_are_refused(tmp_path: Path, key: Any) -> None:
    store, _ = make_store(tmp_path)
    with pytest.raises(UserError, match="no query's key"):
        store.vote(key, FIRST)
    with pytest.raises(UserError, match="no query's key"):
        store.undo(key, "me")


@pytest.mark.parametrize(
    "name",
    ["n" * 10**6, " ", "a\0b", "a\nb", "\ud800", "\u3000"],
    ids=["long", "blank", "NUL", "newline", "half", "wide"],
)
def test_names_that_cannot_be_shown_are_refused(tmp_path: Path, name: str) -> None:
    store, (key,) = make_store(tmp_path)
    with pytest.raises(UserError, match="1 to 200 printable") as refusal:
        store.vote(key, Feedback((0, 1), name))
    assert len(str(refusal.value)) < 250
    with pytest.raises(UserError, match="1 to 200 printable"):
        store.claim(name, 60)
    store.vote(key, Feedback((0, 1), "Zoë Müller 王"))


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0, float("nan"), float("inf")])
def test_impossible_ratings_are_refused(tmp_path: Path, value: float) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    rating, reward = (store.ask(make_queries(1, i, kind, 1))[0].key for i, kind in enumerate((RATING, REWARD)))
    with pytest.raises(UserError, match="rating"):
        store.vote(rating, Feedback(None, "me", value=value))
    if np.isfinite(value):
        store.vote(reward, Feedback(None, "me", value=value))
        assert store.votes()[0].feedback == Feedback(None, "me", value=value)
    else:
        with pytest.raises(UserError, match="reward"):
            store.vote(reward, Feedback(None, "me", value=value))
    with pytest.raises(UserError, match="ranks"):
        store.vote(rating, Feedback((0,), "me"))


@pytest.mark.parametrize(
    "answer",
    [
        *(None, (0, 1), Feedback((0, 1), None), Feedback((0, 1), ""), Feedback((0, 1), "me", -1.0)),  # type: ignore[arg-type]
        *(Feedback((0, 1), 5), Feedback((0, 1), "me", "x"), Feedback((0, 1), "me", [1])),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, answer: object) -> None:
    store, (key,) = make_store(tmp_path)
    with pytest.raises(UserError, match="answer"):
        store.vote(key, answer)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no order"):
        store.vote(key, FIRST, shown=[0, 0])


def test_the_oldest_open_query_is_claimed_first(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 3)
    served = store.claim("a", 60)
    assert served is not None and served[0] == keys[0] == query_key(served[1])
    assert store.claim("a", 60)[0] == keys[0]  # type: ignore[index]  # restarted: its own lease comes back
    assert store.claim("b", 60)[0] == keys[1]  # type: ignore[index]
    store.vote(keys[0], Feedback((0, 1), "a"))
    assert store.claim("a", 60)[0] == keys[2]  # type: ignore[index]
    assert store.claim("c", 60) is None
    store.release(keys[1], "b")
    assert store.claim("c", 60)[0] == keys[1]  # type: ignore[index]
    store.undo(keys[0], "a")
    assert store.claim("b", 60)[0] == keys[0]  # type: ignore[index]


def test_a_lease_runs_out(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    assert store.claim("a", 0.02) is not None
    time.sleep(0.03)
    assert store.claim("b", 60)[0] == key  # type: ignore[index]
    assert store.claim("a", 60) is None
    store.vote(key, Feedback((0, 1), "a"))  # work that is done is not thrown away
    assert answers(store).keys() == {(key, "a")}


def test_several_annotators_answer_one_query(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 2, annotators=2)
    assert [store.claim(who, 60)[0] for who in "abc"] == [keys[0], keys[0], keys[1]]  # type: ignore[index]
    store.vote(keys[0], Feedback((0, 1), "a"))
    assert store.claim("a", 60)[0] == keys[1]  # type: ignore[index]
    assert store.claim("d", 60) is None


def test_a_query_can_be_claimed_by_its_key(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 4)
    assert store.claim("a", 60, keys[2])[0] == keys[2]  # type: ignore[index]
    assert store.claim("b", 60, keys[2])[0] == keys[0]  # type: ignore[index]  # somebody has it: the next one
    assert store.claim("a", 60)[0] == keys[2]  # type: ignore[index]
    assert store.claim("a", 60, keys[3])[0] == keys[3]  # type: ignore[index]  # now two are a's
    store.vote(keys[3], Feedback((0, 1), "a"))
    assert store.claim("a", 60, keys[3])[0] == keys[2]  # type: ignore[index]  # answered: the own one first


def test_a_vote_and_the_next_claim_are_one_transaction(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 3)
    first = store.vote_and_claim(None, "a", 60)
    assert first == store.asked()[0] and store.votes() == []
    second = store.vote_and_claim(new_vote(keys[0], Feedback((0, 1), "a")), "a", 60)
    assert second is not None and second.key == keys[1] and len(store.votes()) == 1
    back = store.vote_and_claim(Vote(keys[0], "a", None, None, 1.0), "a", 60, key=keys[0])  # an undo
    assert back is not None and back.key == keys[0]
    with pytest.raises(UserError, match="ranks"):
        store.vote_and_claim(new_vote(keys[0], Feedback((2, 2), "a")), "a", 60)
    assert store.tally("b").elsewhere == 2 and len(store.votes()) == 2  # nothing of it was done
    for key in keys:
        store.vote_and_claim(new_vote(key, Feedback((0, 1), "a")), "a", 60)
    assert store.vote_and_claim(None, "a", 60) is None and store.tally("b").elsewhere == 0


def test_what_comes_next_can_be_looked_at(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 4)
    store.claim("b", 60)
    store.claim("a", 60, keys[2])
    assert [asked.key for asked in store.upcoming("a", 9)] == [keys[2], keys[1], keys[3]]
    assert store.upcoming("a", 2) == [store.asked(keys[2])[0], store.asked(keys[1])[0]]
    assert [asked.key for asked in store.upcoming("c", 9)] == [keys[1], keys[3]]  # nothing was claimed by looking
    assert FeedbackStore(tmp_path / "empty.sqlite").upcoming("a", 9) == []


def test_leases_are_renewed_together_and_given_back_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, keys = make_store(tmp_path, 3)
    now = time.time()
    monkeypatch.setattr("rlhf_control.feedback.store.time.time", lambda: now)
    store.claim("a", 1.0, keys[0])
    store.claim("a", 0.01, keys[1])
    store.claim("b", 60, keys[2])
    now += 0.05
    assert store.renew("a", 60) == {keys[0]}  # the other one has run out
    assert store.claim("b", 60, keys[1])[0] == keys[1]  # type: ignore[index]
    now += 1.0
    assert store.claim("c", 60) is None
    store.release(None, "a")
    assert store.renew("a", 60) == set() and store.renew("b", 60) == {keys[1], keys[2]}
    assert store.claim("c", 60)[0] == keys[0]  # type: ignore[index]


def test_a_tally_counts_what_people_judge(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 3, annotators=2)
    assert store.tally("a") == Tally(0, 6, 0, 0)
    kinds = ((DEMONSTRATION, 2), (REWARD, 1), (RATING, 1), (SUCCESS, 1))
    others = [store.ask(make_queries(1, i, kind, size))[0].key for i, (kind, size) in enumerate(kinds, 5)]
    store.vote(others[0], Feedback((0, 1), "demonstration"))
    store.vote(others[1], Feedback(None, "sensor", value=1.0))
    store.vote(keys[0], Feedback((0, 1), "a"))
    store.vote(keys[0], Feedback((0, 1), "b"))
    store.claim("b", 60)
    assert store.tally("a") == Tally(2, 8, 1, 1) and store.tally("b") == Tally(2, 8, 1, 0)
    assert [asked.kind for asked in store.upcoming("a", 9)] == [COMPARISON, COMPARISON, RATING, SUCCESS]


def test_a_store_of_version_1_is_brought_to_ours(tmp_path: Path) -> None:
    """The tables as version 1 made them, filled as it filled them."""
    path, query = tmp_path / "labels.sqlite", make_queries(1)[0]
    digest = query.segments.digest()
    with sqlite(path) as db:
        for statement in (*SCHEMA_1, "PRAGMA user_version = 1"):
            db.execute(statement)
        db.execute("INSERT INTO queries VALUES (?, 0, 0, 'uniform', 5.0)", (digest,))
        for side in (0, 1):
            clip = query.segments[side]
            with open(tmp_path / "clip.npz", "wb") as file:
                np.savez(file, allow_pickle=False, **clip.arrays())
            arrays = (tmp_path / "clip.npz").read_bytes()
            db.execute("INSERT INTO segments VALUES (?, ?)", (clip.digest(), arrays))
            db.execute("INSERT INTO items VALUES (?, ?, ?)", (digest, side, clip.digest()))
        for ranks in ("[0, 1]", None):
            db.execute("INSERT INTO votes VALUES (NULL, ?, ?, 'me', 2, 6.0)", (digest, ranks))
    store, key = FeedbackStore(path), query_key(query)
    assert store.query(key).segments.digest() == digest
    answered = [Feedback((0, 1), "me", 2.0), Feedback(None, "me", 2.0)]
    assert store.votes() == [Vote(key, "me", feedback, (0, 1), 6.0) for feedback in answered]
    store.vote(key, SECOND)
    assert answers(FeedbackStore(path)) == {(key, "me"): SECOND}


def test_a_copy_holds_the_same(tmp_path: Path) -> None:
    store, keys = make_store(tmp_path, 2)
    store.vote(keys[1], FIRST)
    store.copy_to(tmp_path / "copy.sqlite")
    copy = FeedbackStore(tmp_path / "copy.sqlite", create=False)
    assert copy.asked() == store.asked() and copy.votes() == store.votes()
    with pytest.raises(UserError, match="exists already"):
        store.copy_to(tmp_path / "copy.sqlite")


# -- faults


def test_a_store_does_not_make_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder does not exist"):
        FeedbackStore(tmp_path / "gone" / "labels.sqlite")
    with pytest.raises(UserError, match="does not exist"):
        FeedbackStore(tmp_path / "labels.sqlite", create=False)
    with pytest.raises(UserError, match="is a folder"):
        FeedbackStore(tmp_path)


def test_a_damaged_clip_is_named(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    with sqlite(store.path) as db:
        blob = bytearray(db.execute("SELECT arrays FROM segments").fetchone()[0])
        blob[len(blob) // 2] ^= 1
        db.execute("UPDATE segments SET arrays = ?", (bytes(blob),))
    with pytest.raises(CorruptFileError, match=r"clip .* is damaged"):
        store.query(key)


def contents(path: Path) -> tuple[list[Asked], list[str], list[Vote]]:
    """All that a store holds."""
    store = FeedbackStore(path, create=False)
    asked = store.asked()
    return asked, [store.query(a.key).segments.digest() for a in asked], store.votes()


def served(path: Path) -> tuple[Any, ...]:
    """All that a store holds, and what three annotators would be asked."""
    store = FeedbackStore(path, create=False)
    return (*contents(path), [(store.upcoming(who, 9), store.tally(who)) for who in ("me", "you", "they")])


@pytest.mark.parametrize("seed", range(3))
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere in the file: either the same content is read and served, or the damage is reported in one line."""
    monkeypatch.setattr("rlhf_control.feedback.store.time.time", lambda: 1.8e9)
    store, keys = make_store(tmp_path, 4, annotators=2)
    for feedback in (FIRST, SECOND):
        store.vote(keys[0], feedback)
    store.undo(keys[0], "me")
    for key in keys[1:3]:
        store.vote(key, FIRST)
        store.vote(key, Feedback((0, 0), "you"))
    store.claim("they", 60)
    whole, data = served(store.path), store.path.read_bytes()
    rng, noticed = np.random.default_rng(seed), 0
    for place in rng.permutation(len(data))[:150]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        store.path.write_bytes(damaged)
        try:
            assert served(store.path) == whole
        except UserError as error:
            assert "\n" not in str(error)
            noticed += 1
    assert noticed > 50


def test_a_changed_number_of_clips_is_damage(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    store.ask([Query(0, 0, "uniform", random_segments(np.random.default_rng(0), 4, 5), RANKING)])
    with sqlite(store.path) as db:
        db.execute("UPDATE queries SET size = 5")
    with pytest.raises(CorruptFileError, match="is damaged"):
        store.asked()


def test_files_that_are_no_store(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(CorruptFileError, match=r"labels\.sqlite"):
        FeedbackStore(path)
    for statement in ("PRAGMA user_version = 99", "CREATE TABLE recipes (name)"):
        path.unlink()
        with sqlite(path) as db:
            db.execute(statement)
        with pytest.raises(UserError, match="schema version"):
            FeedbackStore(path)


def test_a_locked_file_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    store.database.hurry(0.05)
    with sqlite(store.path) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked"):
            store.vote(key, FIRST)
    store.vote(key, FIRST)
    assert len(store.votes()) == 1


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    """The limit on a file's size, which fails a write as a full disk does; in a process of its own."""
    store, (key,) = make_store(tmp_path)
    store.vote(key, FIRST)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size + 5_000,) * 2)
        try:
            store.ask(make_queries(20, 1))
        except UserError:
            os._exit(42)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert len(contents(store.path)[0]) == 1 and answers(store) == {(key, "me"): FIRST}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    tmp_path.chmod(0o500)
    store.path.chmod(0o400)
    try:
        assert len(contents(store.path)[0]) == 1
        with pytest.raises(UserError, match="readonly"):
            store.vote(key, FIRST)
    finally:
        tmp_path.chmod(0o700)


# -- several processes


LEASE = 6.0  # s; long against everything but a killed annotator, on a busy machine too


def annotate(path: Path, name: str, writing: int) -> None:
    """Claims and votes until nothing is left, and reports each vote after it is committed."""
    store = FeedbackStore(path)
    while served := store.claim(name, LEASE):
        time.sleep(0.01)
        store.vote(served[0], Feedback((0, 1), name))
        os.write(writing, f"{name} {served[0]}\n".encode())


def test_a_new_store_is_made_once_by_many(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=FeedbackStore, args=(tmp_path / "labels.sqlite",)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0


@pytest.mark.slow
def test_four_annotators_at_once_and_kill_9(tmp_path: Path) -> None:
    """Two of four are killed in the middle. Nothing that was promised is lost, no query is served twice, and the ones
    that the killed held are answered when their leases have run out."""
    store, keys = make_store(tmp_path, 60)
    context = multiprocessing.get_context("fork")
    reading, writing = os.pipe()
    workers = [context.Process(target=annotate, args=(store.path, f"a{i}", writing)) for i in range(4)]
    for worker in workers:
        worker.start()
    os.close(writing)
    while len({vote.annotator for vote in store.votes()}) < 4:
        time.sleep(0.02)
    for worker in workers[:2]:
        os.kill(worker.pid, signal.SIGKILL)  # type: ignore[arg-type]
    for worker in workers:
        worker.join(30)
    with os.fdopen(reading) as pipe:
        promised = {tuple(line.split()) for line in pipe}
    while len(store.votes()) < len(keys):
        served = store.claim("late", LEASE)
        if served is None:  # the last leases of the killed
            time.sleep(0.1)
        else:
            store.vote(served[0], Feedback((0, 1), "late"))
    voted = [(vote.annotator, vote.query) for vote in store.votes()]
    assert sorted(query for _, query in voted) == sorted(keys)  # every query once
    assert promised <= set(voted) and {"a0", "a1", "a2", "a3"} <= {name for name, _ in voted}
    assert len(contents(store.path)[0]) == 60


@pytest.mark.slow
def test_kill_9_loses_no_vote(tmp_path: Path) -> None:
    """A child votes and reports each vote through a pipe after it is committed; then it is killed."""
    store, (key,) = make_store(tmp_path)
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
        promised += len(os.read(reading, 1))  # it votes
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            promised += len(pipe.read())
        assert len(FeedbackStore(store.path).votes()) >= promised
    assert promised > 20


def test_an_emptied_file_is_no_new_store(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").touch()
    with pytest.raises(CorruptFileError, match="is empty"):
        FeedbackStore(tmp_path / "labels.sqlite", create=False)
    assert (tmp_path / "labels.sqlite").stat().st_size == 0


@pytest.mark.parametrize("create", [False, True])
def test_a_cut_file_is_no_new_store(tmp_path: Path, create: bool) -> None:
    store, _ = make_store(tmp_path)
    data = store.path.read_bytes()
    for size in (1, 2, 15, 16, 99, 100, 511, 512, 1024):
        store.path.write_bytes(data[:size])
        with pytest.raises(CorruptFileError, match=r"labels\.sqlite"):
            FeedbackStore(store.path, create=create)
        assert store.path.read_bytes() == data[:size]


@pytest.mark.parametrize(("schema", "version"), [(SCHEMA_3, 3), (SCHEMA_2, 2), (SCHEMA_BEFORE, 2)])
def test_a_store_of_an_older_version_is_brought_to_ours(tmp_path: Path, schema: tuple[str, ...], version: int) -> None:
    """Every row stays as it is, beyond the limits of now, too; new votes are held to these, and there are marks and
    groups."""
    path, (query,) = tmp_path / "labels.sqlite", make_queries(1, kind=RATING, size=1)
    clip, rating = query.segments[0], 1e8 if schema is SCHEMA_BEFORE else 3.0
    asked = Asked(query_key(query), RATING, 0, 0, 0, "uniform", 1, None, None, 5.0, (clip.digest(),))
    vote = Vote(asked.key, "me", Feedback(None, "me", 1.0, rating), (0,), 6.0)
    with sqlite(path) as db:
        for statement in (*schema, f"PRAGMA user_version = {version}"):
            db.execute(statement)
        db.execute("INSERT INTO segments VALUES (?, ?)", (clip.digest(), pack(clip)))
        _insert_query(db, asked)
        _insert_vote(db, vote)
        db.execute("INSERT INTO leases VALUES (?, 'you', ?)", (asked.key, time.time() + 60))
    store = FeedbackStore(path, create=False)
    assert store.asked() == [asked] and store.votes() == [vote] and store.tally("me").elsewhere == 1
    with pytest.raises(UserError, match="from 1 to 100"):
        store.vote(asked.key, Feedback(None, "me", value=1e8))
    (mark,) = store.ask(make_queries(1, 7, SUCCESS, 1))
    store.vote(mark.key, Feedback(None, "me", value=1.0))
    (groups,) = store.ask(make_queries(1, 8, GROUPS, 6))
    store.vote(groups.key, Feedback((1, 1, 1, 0, 0, 0), "me"))
    assert len(FeedbackStore(path, create=False).votes()) == 3


def test_groups_have_one_rank_each(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    (groups,) = store.ask(make_queries(1, 8, GROUPS, 6), annotators=2)
    for wrong in ((0, 0, 1, 1, 1, 1), (0, 0, 0, 2, 2, 2), (0, 1, 2, 3, 4, 5)):
        with pytest.raises(UserError, match="give all clips of a group the same, 0 or 1"):
            store.vote(groups.key, Feedback(wrong, "me"))
    given = ((0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0), (0,) * 6, None)
    for ranks in given:
        store.vote(groups.key, Feedback(ranks, "me"), [5, 3, 4, 0, 1, 2])
    assert tuple(vote.feedback.ranks for vote in store.votes() if vote.feedback) == given
    assert store.upcoming("you", 9)[0].kind == GROUPS and store.tally("me").answers == 1


def test_a_mark_is_a_success_a_failure_or_cannot_tell(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    (mark,) = store.ask(make_queries(1, 7, SUCCESS, 1))
    for wrong in (Feedback(None, "me", value=0.5), Feedback(None, "me", value=2.0), Feedback((0,), "me")):
        with pytest.raises(UserError, match="not answer a success"):
            store.vote(mark.key, wrong)
        with pytest.raises(UserError, match="not answer this query"), store.database.writing() as db:
            _insert_vote(db, Vote(mark.key, "me", wrong, (0,), 6.0))  # the tables refuse what `check_vote` did not see
    for value in (1.0, 0.0, None):
        store.vote(mark.key, Feedback(None, "me", value=value))
    assert [vote.feedback.value for vote in store.votes() if vote.feedback] == [1.0, 0.0, None]


@pytest.mark.parametrize("jump", [-86_400, -3_600, 86_400])
def test_a_clock_that_is_set_locks_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    store, (key,) = make_store(tmp_path)
    now = time.time()
    assert store.claim("dead", 60) is not None and store.claim("b", 60) is None
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert store.tally("b").elsewhere == 0 and store.claim("b", 60)[0] == key  # type: ignore[index]
    monkeypatch.setattr(time, "time", lambda: now + 2 * jump)
    store.renew("b", 60)  # as whoever is there does
    if jump < 0:
        assert store.claim("c", 60) is None and store.tally("c").elsewhere == 1


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_is_no_store(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "labels.sqlite", tmp_path / "other.sqlite"
    FeedbackStore(other)
    path.symlink_to(other) if what == "link" else os.mkfifo(path) if what == "pipe" else path.mkdir()
    for create in (True, False):
        with pytest.raises(UserError, match=r"a symbolic link|a pipe|a folder"):
            FeedbackStore(path, create=create)


def test_a_store_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    store, (key,) = make_store(tmp_path)
    store.path.rename(tmp_path / "moved")
    with pytest.raises(UserError):
        store.vote(key, Feedback((0, 1), "a"))
    assert not store.path.exists()
