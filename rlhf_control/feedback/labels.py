"""The labels of a run: from queries to what a reward model learns from, through the store."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, CORRECTION, DEMONSTRATION, KINDS, Answers, Array, Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.answering import Gold, annotators_of, answer_known, consult
from rlhf_control.feedback.oracles import Oracle
from rlhf_control.feedback.schema import AT_RANDOM, EARLY_END, GOLD, Asked, Version, Vote
from rlhf_control.feedback.store import FeedbackStore, informative
from rlhf_control.wording import counted

POLL_SECONDS = 0.2  # between two looks for votes that people cast in other processes
UNASKED = (GOLD, CORRECTION)  # strategies of queries that nobody waits for


def wait_a_little(missing: int) -> None:
    """Lets people answer for a moment, however many answers are missing."""
    time.sleep(POLL_SECONDS)


class Labels:
    """Holds the queries of one run, in order, and the answers to them that have been read from the store's history.

    A query is known by its key (clips, kind, repeat), so a resumed run that asks the same again finds the votes of
    before: none is lost, and none is asked for twice. `ask` reads the history vote by vote and no further than to the
    one that completes the round; so a run on a copy of the store sees, round by round, what the first run saw, changed
    minds and undone votes included.

    Without an oracle, people answer through the store (`claim`, `vote`), each query `annotators` of them, and `ask`
    calls `wait` with the number of missing answers until there are none; it may raise to stop. `before_issue` sees the
    queries before anybody else does. People also correct what they see: a query of the strategy "correction" that one
    of them put into the store is taken in when its vote is read. A demonstration is no question to anybody. Gold is
    asked like any other, but its answers are known: nobody waits for them, and nothing is learned from them.
    """

    def __init__(self, store: FeedbackStore, oracle: Oracle | None, seed: int, *, annotators: int = 1) -> None:
        self.store, self.oracle, self.seed, self.annotators = store, oracle, seed, annotators
        self.wait: Callable[[int], None] = wait_a_little
        self.before_issue: Callable[[Sequence[Query]], None] = lambda queries: None
        self.gold: Gold = {}
        self.asked: dict[str, Asked] = {}  # by key, in the order in which they were asked
        self.strangers: set[str] = set()  # keys of queries in the history that are not this run's
        self.clips: dict[str, Segments] = {}  # by digest, (L, ...)
        self.votes: dict[str, dict[str, Feedback]] = {}  # key -> annotator -> the answer in force
        self.read = 0  # how much of the history
        self._history = hashlib.sha256()  # of what was read

    def ask(self, queries: Sequence[Query], pool: Segments, *, policy: Version = None, reward: Version = None) -> None:
        """Has every query answered, and the answers on the disk. The oracle also sees `pool`, the clips (S, L, ...) to
        choose from. `policy` and `reward` are the models' versions, for the record."""
        self.issue(queries, policy=policy, reward=reward)
        self._settle()
        while pending := self.pending():
            if self.oracle is None:
                self.wait(self.missing())
            else:
                if self.annotators > 1:
                    raise UserError(
                        f"{counted(len(pending), 'query lacks', 'queries lack')} answers by {self.annotators} "
                        "annotators, and an oracle is one; ask people, or one annotator a query"
                    )
                asked = ((key, self.asked[key].query(self.clips)) for key in pending)
                consult(self.oracle, self.store, asked, pool, self.seed)
            self._settle()

    def issue(self, queries: Sequence[Query], *, policy: Version = None, reward: Version = None) -> None:
        """Asks without waiting: `collect` takes in the answers that have come since."""
        self.before_issue(queries)
        stored: list[Asked] = []
        for annotators, some in groupby(queries, lambda query: annotators_of(query, self.annotators)):
            stored += self.store.ask(list(some), annotators=annotators, policy=policy, reward=reward)
        for query, asked in zip(queries, stored, strict=True):
            for array in query.segments.arrays().values():  # a clip is known by its digest: nobody may change it
                array.setflags(write=False)
            self.asked[asked.key] = asked
            self.clips |= {digest: query.segments[side].present() for side, digest in enumerate(asked.clips)}
        if self.oracle is None:
            answer_known(self.store, stored, self.gold)

    def questions(self) -> list[Asked]:
        """Returns what the run wants to know of people: neither gold nor what they show unasked."""
        return [a for a in self.asked.values() if a.strategy not in UNASKED and a.kind != DEMONSTRATION]

    def pending(self) -> list[str]:
        """Returns the keys of the queries that lack answers, in the order in which they were asked."""
        return [key for key, lacking in self._lacking().items() if lacking > 0]

    def missing(self) -> int:
        """Returns how many answers people have still to give: to a query, each of its annotators."""
        return sum(max(0, lacking) for lacking in self._lacking().values())

    def _lacking(self) -> dict[str, int]:
        """Returns how many answers each query lacks, by key, in the order in which they were asked."""
        wanted = {k: min(a.annotators, self.annotators) for k, a in self.asked.items() if a.strategy not in UNASKED}
        return {key: annotators - len(self.votes.get(key, ())) for key, annotators in wanted.items()}

    def collect(self, until: int | None = None) -> int:
        """Takes in every vote cast since the last reading (or of the history's first `until`). Returns how many."""
        votes = self.store.votes(self.read)
        return self._take(votes if until is None else votes[: max(0, until - self.read)])

    def answers(self, keys: Iterable[str] | None = None, *, about_ends: bool = False) -> Answers | None:
        """Returns the informative answers to the queries of these keys (default: all), one for each annotator, without
        gold; None if there are none. Those about early ends, from which a reward of steps learns nothing, are apart."""
        asked = [self.asked[key] for key in (self.asked if keys is None else keys)]
        asked = [a for a in asked if a.strategy != GOLD and (a.strategy == EARLY_END) == about_ends]
        rows = [(a, f) for a in asked for f in self.votes.get(a.key, {}).values() if informative(f)]
        return gather(rows, self.clips) if rows else None

    def pairs(self, keys: Iterable[str] | None = None) -> tuple[Segments, Array] | None:
        """Returns the comparisons among the answers: clips (Q, 2, L, ...) and targets (Q,), 1 where the first is
        preferred, 1/2 for a tie; None if there are none."""
        answers = self.answers(keys)
        chosen = np.flatnonzero(answers.kind == KINDS.index(COMPARISON)) if answers is not None else ()
        if answers is None or not len(chosen):
            return None
        first, second = answers.ranks[chosen, :2].T
        target = np.where(first == second, 0.5, first < second).astype(np.float32)
        return answers.clips[answers.items[chosen, :2]], target

    def counts(self) -> dict[str, int]:
        """Counts queries asked, answers given, and labels: the answers that say something. A tie does ("these are
        alike" bears on a tie model), "cannot tell" does not. Gold is apart: answers to it, and how many were right."""
        own = [asked for asked in self.asked.values() if asked.strategy != GOLD]
        given = [feedback for asked in own for feedback in self.votes.get(asked.key, {}).values()]
        counts = {"queries": len(own), "answers": len(given), "labels": sum(map(informative, given))}
        if self.gold:
            checks = [(ranks, f) for key, (_, ranks) in self.gold.items() for f in self.votes.get(key, {}).values()]
            right = [feedback.ranks == ranks for ranks, feedback in checks if feedback.annotator != GOLD]
            counts |= {"gold": len(right), "gold_right": sum(right)}
        return counts

    def take_in(self, asked: Asked) -> None:
        """Counts a query of the store among this run's; its votes are taken in as they are read."""
        self.clips |= self.store.segments(asked.clips)
        self.asked[asked.key] = asked

    def take_in_all(self) -> None:
        """Counts all that was asked through this store, and not yet counted, among this run's. Corrections come with
        their votes."""
        for asked in self.store.asked():
            if asked.key not in self.asked and asked.strategy != CORRECTION:
                self.take_in(asked)

    def adopt(self) -> None:
        """Takes in all that the store holds, whoever asked: imported answers, an earlier run's."""
        self.load_state({"asked": [asked.key for asked in self.store.asked()], "read": len(self.store.votes())})

    def state(self) -> dict[str, Any]:
        return {"asked": list(self.asked), "read": self.read, "history": self._history.hexdigest()}

    def load_state(self, state: dict[str, Any]) -> None:
        stored, history = {asked.key: asked for asked in self.store.asked()}, self.store.votes()
        if len(history) < state["read"] or not stored.keys() >= set(state["asked"]):
            raise UserError(f"{self.store.path} lacks votes that the checkpoint counts; restore it from a copy")
        self.asked = {key: stored[key] for key in state["asked"]}
        self.clips = self.store.segments({digest: None for asked in self.asked.values() for digest in asked.clips})
        self.votes, self.read = {}, 0
        self._history = hashlib.sha256()
        self._take(history[: state["read"]])
        if state.get("history", self._history.hexdigest()) != self._history.hexdigest():
            raise UserError(f"{self.store.path} holds other votes than the checkpoint counts; restore it from a copy")

    def _settle(self) -> None:
        """Reads the history until every query is answered, or to its end."""
        for vote in self.store.votes(self.read):
            if not self.pending():
                break
            self._take([vote])

    def _take_in_correction(self, key: str) -> None:
        """Counts a correction among the queries when its vote is read: at the same place in every replay."""
        self.strangers.add(key)
        asked = self.store.asked(key)[0]
        if asked.strategy != CORRECTION:
            return
        own = [digest for question in self.questions()[:1] for digest in question.clips]
        clips = [*self.store.segments(asked.clips).values(), *(self.clips[digest] for digest in own)]
        if len({(clip.obs.shape[1:], clip.action.shape[1:]) for clip in clips}) > 1:
            print(f"rlhf-control: the correction {key[:12]} is left out: the run's clips are others", file=sys.stderr)
            return
        self.take_in(asked)

    def _take(self, votes: Sequence[Vote]) -> int:
        for vote in votes:
            self._history.update(repr(vote).encode("utf-8", "backslashreplace"))
            if vote.query not in self.asked and vote.query not in self.strangers:
                self._take_in_correction(vote.query)
            of_query = self.votes.setdefault(vote.query, {})
            of_query.pop(vote.annotator, None)
            if vote.feedback is not None:
                of_query[vote.annotator] = vote.feedback
        self.read += len(votes)
        return len(votes)


def gather(rows: Sequence[tuple[Asked, Feedback]], clips: Mapping[str, Segments]) -> Answers:
    """Turns informative answers into arrays. Raises UserError if the clips (L, ...), by digest, are of other
    environments. They may differ in length."""
    place = {digest: i for i, digest in enumerate(dict.fromkeys(d for asked, _ in rows for d in asked.clips))}
    size = max(len(asked.clips) for asked, _ in rows)
    items, ranks = np.full((2, len(rows), size), -1)
    value = np.full(len(rows), np.nan)
    for row, (asked, feedback) in enumerate(rows):
        items[row, : len(asked.clips)] = [place[digest] for digest in asked.clips]
        ranks[row, : len(asked.clips)] = 0 if feedback.ranks is None else feedback.ranks
        value[row] = np.nan if feedback.value is None else feedback.value
    kind = np.array([KINDS.index(asked.kind) for asked, _ in rows])
    at_random = np.array([asked.strategy in AT_RANDOM for asked, _ in rows])
    annotator = np.array([feedback.annotator for _, feedback in rows])
    return Answers(_stack([clips[digest] for digest in place]), items, ranks, kind, value, at_random, annotator)


def _stack(clips: Sequence[Segments]) -> Segments:
    """Stacks clips, (S, L, ...), without pictures, and without the simulator states if some lack them."""
    shapes = {(clip.obs.shape[1:], clip.action.shape[1:]) for clip in clips}
    if len(shapes) > 1:
        raise UserError(
            f"clips of several environments cannot be learned from together: (obs, action) are {sorted(shapes)}"
        )
    clips = [clip.without_frames() for clip in clips]
    if any(clip.state is None for clip in clips):
        clips = [Segments(clip.obs, clip.action, clip.next_obs, clip.env_reward) for clip in clips]
    return Segments.stack(clips)
