import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import env_reward
from rlhf_control.data import (
    COMPARISON,
    CORRECTION,
    KINDS,
    RANKING,
    RATING,
    REWARD,
    Answers,
    Feedback,
    Query,
    Segments,
)
from rlhf_control.errors import UserError
from rlhf_control.feedback.answering import replay
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.oracles import RewardOracle
from rlhf_control.feedback.schema import GOLD, TRIED_AGAIN, query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.queries.choose import ALIKE
from rlhf_control.reward.known import KnownReward
from rlhf_control.training.metrics import accuracy
from tests.conftest import random_segments


def make_queries(n: int, round: int = 0, kind: str = COMPARISON, size: int = 2) -> list[Query]:
    rng = np.random.default_rng([round, size])
    return [Query(round, i, "uniform", random_segments(rng, size, 5), kind) for i in range(n)]


def keys_of(queries: list[Query]) -> list[str]:
    return [query_key(query) for query in queries]


class Scripted:
    """Answers from a list and counts the questions."""

    def __init__(self, answers: list[tuple[int, ...] | float | None]) -> None:
        self.answers, self.asked = answers, 0

    def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        self.asked += 1
        answer = self.answers[query.index]
        value, ranks = (answer, None) if isinstance(answer, float) else (None, answer)
        return Feedback(ranks, "scripted", value=value)


def assert_same(a: Answers | None, b: Answers | None) -> None:
    assert a is not None and b is not None and a.clips.digest() == b.clips.digest()
    for name in ("items", "ranks", "kind", "value"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_issued_answered_and_informative_are_counted_apart(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1), (1, 0), (0, 0), None]), 0)
    queries = make_queries(4)
    labels.ask(queries, queries[0].segments)
    assert labels.counts() == {"queries": 4, "answers": 4, "labels": 3}  # "cannot tell" is no label
    pairs = labels.pairs()
    assert pairs is not None
    np.testing.assert_array_equal(pairs[1], [1, 0, 0.5])
    assert pairs[0].obs.shape == (3, 2, 5, 17)
    assert labels.pairs(keys_of(queries[3:])) is None and labels.answers(keys_of(queries[3:])) is None


def test_answers_know_whether_a_model_chose_their_clips(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 4), 0)
    strategies = ("uniform", "bald", TRIED_AGAIN, "uniform" + ALIKE)
    queries = [replace(q, strategy=s) for q, s in zip(make_queries(4), strategies, strict=True)]
    labels.ask(queries, queries[0].segments)
    answers = labels.answers()
    assert answers is not None and answers.at_random is not None
    assert answers.at_random.tolist() == [True, False, True, False]


def test_answers_of_several_kinds(tmp_path: Path) -> None:
    """A comparison (a, b), a ranking of (c, a, d), a rating of b, a reward of c: four clips, padded to K = 3."""
    a, b, c, d = random_segments(np.random.default_rng(0), 4, 5)
    queries = [
        Query(0, 0, "uniform", Segments.stack([a, b])),
        Query(0, 1, "uniform", Segments.stack([c, a, d]), RANKING),
        Query(0, 2, "uniform", Segments.stack([b]), RATING),
        Query(0, 3, "uniform", Segments.stack([c]), REWARD),
        Query(0, 4, "uniform", Segments.stack([c]), RATING),
    ]
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(1, 0), (0, 1, 1), 4.0, -0.5, None]), 0)
    labels.ask(queries, queries[0].segments)
    answers = labels.answers()
    assert answers is not None and len(answers) == 4
    assert answers.clips.digest() == Segments.stack([a, b, c, d]).digest()
    np.testing.assert_array_equal(answers.items, [[0, 1, -1], [2, 0, 3], [1, -1, -1], [2, -1, -1]])
    np.testing.assert_array_equal(answers.ranks, [[1, 0, -1], [0, 1, 1], [0, -1, -1], [0, -1, -1]])
    np.testing.assert_array_equal(answers.kind, [KINDS.index(k) for k in (COMPARISON, RANKING, RATING, REWARD)])
    np.testing.assert_array_equal(answers.value, [np.nan, np.nan, 4.0, -0.5])
    pairs, target = labels.pairs()  # type: ignore[misc]
    assert pairs.digest() == Segments.stack([Segments.stack([a, b])]).digest() and target == [0]
    ranking = labels.answers(keys_of(queries[1:2]))
    assert ranking is not None and ranking.items.shape == (1, 3)


def test_clips_of_different_shapes_are_refused_and_missing_states_left_out(tmp_path: Path) -> None:
    clips = random_segments(np.random.default_rng(0), 2, 5)
    bare = replace(clips, state=None)
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 4), 0)
    labels.ask([Query(0, 0, "uniform", clips), Query(0, 1, "uniform", bare)], clips)
    answers = labels.answers()
    assert answers is not None and answers.clips.state is None and len(answers.clips) == 4
    labels.ask([Query(0, 2, "uniform", clips[:, :3])], clips)  # type: ignore[index]
    answers = labels.answers()
    assert (
        answers is not None
        and answers.clips.mask is not None
        and answers.clips.mask.sum(1).tolist() == [5] * 4 + [3] * 2
    )
    labels.ask([Query(0, 3, "uniform", replace(clips, obs=clips.obs[..., :3], next_obs=clips.obs[..., :3]))], clips)
    with pytest.raises(UserError, match="several environments"):
        labels.answers()


def test_a_stored_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    store, oracle = FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 5)
    queries = make_queries(5)
    store.ask(queries[:2])
    store.vote(query_key(queries[0]), Feedback((1, 0), "a person, before the crash"))
    labels = Labels(store, oracle, 0)
    labels.ask(queries, queries[0].segments)
    assert oracle.asked == 4
    pairs = labels.pairs()
    assert pairs is not None
    np.testing.assert_array_equal(pairs[1], [0, 1, 1, 1, 1])


def test_the_same_clips_asked_again_are_another_query(tmp_path: Path) -> None:
    oracle = Scripted([(0, 1), (1, 0)])
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), oracle, 0)
    first = make_queries(1)[0]
    labels.ask([first, replace(first, index=1, repeat=1)], first.segments)
    assert oracle.asked == 2
    answers = labels.answers()
    assert answers is not None and len(answers) == 2 and len(answers.clips) == 2


def test_answers_do_not_depend_on_what_was_answered_before(tmp_path: Path) -> None:
    """A noisy oracle gives the same answers when half of them are already in the store."""
    queries, oracle = make_queries(20), RewardOracle(env_reward, "env", temperature=3.0)
    whole = Labels(FeedbackStore(tmp_path / "a.sqlite"), oracle, 7)
    whole.ask(queries, queries[0].segments)
    half = Labels(FeedbackStore(tmp_path / "b.sqlite"), oracle, 7)
    half.ask(queries[:9], queries[0].segments)
    again = Labels(half.store, oracle, 7)
    again.ask(queries, queries[0].segments)
    assert_same(whole.answers(), again.answers())


def test_a_checkpoint_knows_how_far_it_had_read(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels = Labels(store, Scripted([(0, 1)] * 4), 0)
    queries = make_queries(3)
    labels.ask(queries, queries[0].segments)
    before, state = labels.answers(), labels.state()
    store.undo(query_key(queries[0]), "scripted")
    store.vote(query_key(queries[1]), Feedback((1, 0), "scripted"))
    again = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1)] * 4), 0)
    again.load_state(state)
    assert again.counts() == {"queries": 3, "answers": 3, "labels": 3}
    assert_same(before, again.answers())
    assert again.collect() == 2 and again.pending() == [query_key(queries[0])]
    assert again.answers().ranks.tolist() == [[1, 0], [0, 1]]  # type: ignore[union-attr]
    with pytest.raises(UserError, match="lacks votes"):
        Labels(FeedbackStore(tmp_path / "new.sqlite"), Scripted([]), 0).load_state(labels.state())


def test_people_answer_through_the_store(tmp_path: Path) -> None:
    """Two annotators, each on a thread of its own, answer all the queries; one goes back once."""
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), None, 0, annotators=2)
    queries, waits = make_queries(4), []

    def person(name: str) -> None:
        store, done = FeedbackStore(tmp_path / "l.sqlite"), 0
        while done < len(queries):
            if served := store.claim(name, 60):
                store.vote(served[0], Feedback((0, 1), name, 0.1))
                if done == 0:
                    store.undo(served[0], name)
                    store.vote(served[0], Feedback((1, 0), name, 0.1))
                done += 1

    labels.wait = waits.append
    people = [threading.Thread(target=person, args=(name,)) for name in ("ann", "bob")]
    for thread in people:
        thread.start()
    labels.ask(queries, queries[0].segments)
    for thread in people:
        thread.join()
    assert labels.counts() == {"queries": 4, "answers": 8, "labels": 8}
    assert not waits or max(waits) <= 8  # answers: two to each
    oracle = replay(labels.store, tmp_path / "again.sqlite")
    again = Labels(FeedbackStore(tmp_path / "again.sqlite"), oracle, 0, annotators=2)
    again.ask(queries, queries[0].segments)
    assert_same(again.answers(), labels.answers())
    with pytest.raises(UserError, match="3 queries lack answers by 2 annotators"):
        again.ask(make_queries(3, 1), queries[0].segments)


def test_what_stops_the_wait_stops_ask(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), None, 0)

    def stop(pending: int) -> None:
        raise KeyboardInterrupt(pending)

    labels.wait = stop
    with pytest.raises(KeyboardInterrupt, match="3"):
        labels.ask(make_queries(3), make_queries(1)[0].segments)
    twice = Labels(FeedbackStore(tmp_path / "2.sqlite"), None, 0, annotators=2)
    twice.wait = stop
    with pytest.raises(KeyboardInterrupt, match="6"):
        twice.ask(make_queries(3), make_queries(1)[0].segments)
    twice.store.vote(twice.store.asked()[0].key, Feedback((0, 1), "ann", 0.1))
    twice.collect()
    assert twice.missing() == 5 and len(twice.pending()) == 3


def test_a_run_of_changed_minds_is_replayed_round_by_round(tmp_path: Path) -> None:
    """An annotator who changes earlier answers when asked about later ones, and takes one back."""
    store = FeedbackStore(tmp_path / "l.sqlite")
    rounds = [make_queries(3, r) for r in range(3)]
    keys = [query_key(query) for queries in rounds for query in queries]

    class Fickle(Scripted):
        def __call__(self, query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
            if (query.round, query.index) == (1, 1):
                store.vote(keys[0], Feedback((1, 0), "scripted"))  # after round 0 was learned from
            if (query.round, query.index) == (2, 0) and self.asked < 8:
                store.undo(keys[4], "scripted")  # is asked for once more
            return super().__call__(query, pool, rng)

    first, seen = Labels(store, Fickle([(0, 1), (1, 0), (0, 0)]), 0), []
    for queries in rounds:
        first.ask(queries, queries[0].segments)
        seen.append(first.answers())
    assert seen[0].ranks[0].tolist() == [0, 1] and seen[1].ranks[0].tolist() == [1, 0]  # type: ignore[union-attr]
    oracle = replay(store, tmp_path / "again.sqlite")
    again = Labels(FeedbackStore(tmp_path / "again.sqlite"), oracle, 0)
    for queries, answers in zip(rounds, seen, strict=True):
        again.ask(queries, queries[0].segments)
        assert_same(again.answers(), answers)
    assert again.state() == first.state() and again.store.votes() == store.votes()
    with pytest.raises(UserError, match="no answer to query 0 of round 5"):
        again.ask(make_queries(1, 5), rounds[0][0].segments)


def test_adopt_takes_in_everything(tmp_path: Path) -> None:
    labels = Labels(FeedbackStore(tmp_path / "l.sqlite"), Scripted([(0, 1), None, (0, 0)]), 0)
    labels.ask(make_queries(3), make_queries(1)[0].segments)
    other = Labels(labels.store, None, 0)
    other.adopt()
    assert_same(other.answers(), labels.answers())
    assert other.counts() == labels.counts()


def test_accuracy_leaves_ties_out() -> None:
    pairs = random_segments(np.random.default_rng(0), 4, 2, 5)
    means = pairs.env_reward.mean(-1)
    target = (means[:, 0] > means[:, 1]).astype(np.float32)
    target[0] = 1 - target[0]
    target[1] = 0.5
    assert accuracy(KnownReward(env_reward), pairs, target) == 2 / 3
    assert accuracy(KnownReward(env_reward), pairs, np.full(4, 0.5)) == 0.5


def test_corrections_are_taken_in_when_their_vote_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels, queries = Labels(store, None, 0), make_queries(2)
    labels.issue(queries)
    better, short, stranger = make_queries(3, round=1, kind=CORRECTION)
    foreign = replace(short.segments, obs=short.segments.obs[..., :3], next_obs=short.segments.obs[..., :3])
    short = replace(short, segments=foreign)
    corrections = [replace(query, strategy=CORRECTION) for query in (better, short)]
    keys = [asked.key for asked in store.ask([*corrections, stranger])]
    labels.collect()
    assert labels.counts()["queries"] == 2
    for key in (*keys, query_key(queries[0])):
        store.vote(key, Feedback((0, 1), "ann"))
    labels.collect()
    assert labels.counts() == {"queries": 3, "answers": 2, "labels": 2}
    assert capsys.readouterr().err.count("is left out") == 1  # the short one: with others it cannot be learned from
    assert [asked.key for asked in labels.questions()] == [query_key(query) for query in queries]
    again = Labels(store, None, 0)
    again.load_state(labels.state())
    assert_same(again.answers(), labels.answers())
    store.undo(keys[0], "ann")
    labels.collect()
    assert labels.pending() == [query_key(queries[1])]  # nobody waits for what was volunteered
    assert labels.counts()["answers"] == 1


def test_gold_is_asked_counted_and_not_learned_from(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels = Labels(store, None, 0)
    gold = [replace(query, strategy=GOLD) for query in make_queries(2, round=1)]
    labels.gold = {query_key(query): (query, (0, 1)) for query in gold}
    (own,) = make_queries(1)
    labels.issue([gold[0], own, gold[1]])
    for answer in ((0, 1), (1, 0), (1, 0)):
        served = store.claim("ann", 60)
        assert served is not None
        store.vote(served[0], Feedback(answer, "ann"))
    assert [vote.query for vote in store.votes() if vote.annotator == "ann"] == [
        query_key(query) for query in (gold[0], own, gold[1])
    ]
    labels.collect()
    assert labels.counts() == {"queries": 1, "answers": 1, "labels": 1, "gold": 2, "gold_right": 1}
    answers = labels.answers()
    assert answers is not None and len(answers) == 1 and not labels.pending()


def test_before_a_query_is_issued_it_can_be_looked_at(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels, seen = Labels(store, None, 0), []
    labels.before_issue = lambda queries: seen.append((len(queries), len(store.asked())))
    labels.issue(make_queries(3))
    assert seen == [(3, 0)]


def test_history_can_be_read_up_to_a_place(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    labels, queries = Labels(store, None, 0), make_queries(3)
    labels.issue(queries)
    for query in queries:
        store.vote(query_key(query), Feedback((0, 1), "ann"))
    assert labels.collect(2) == 2 and len(labels.pending()) == 1
    assert labels.collect(1) == 0 and labels.collect() == 1 and labels.read == 3


def test_what_a_killed_run_had_asked_is_taken_in(tmp_path: Path) -> None:
    store, queries = FeedbackStore(tmp_path / "l.sqlite"), make_queries(3)
    store.ask(queries)
    labels = Labels(store, None, 0)
    labels.issue(queries[1:2])
    labels.take_in_all()
    assert [asked.key for asked in labels.questions()] == [query_key(queries[i]) for i in (1, 0, 2)]


def test_other_votes_in_place_of_those_that_were_learned_from_are_noticed(tmp_path: Path) -> None:
    """Another store with the same questions, or this one with another answer."""
    states = []
    for name, ranks in (("one", (0, 1)), ("two", (1, 0))):
        labels = Labels(FeedbackStore(tmp_path / f"{name}.sqlite"), Scripted([ranks] * 2), 0)
        labels.ask(make_queries(2), random_segments(np.random.default_rng(0), 3, 5))
        states.append(labels.state())
    again = Labels(FeedbackStore(tmp_path / "one.sqlite"), None, 0)
    again.load_state(states[0])
    assert again.state() == states[0]
    with pytest.raises(UserError, match="other votes than the checkpoint counts"):
        again.load_state(states[1])
    again.load_state({name: states[1][name] for name in ("asked", "read")})  # an older checkpoint
