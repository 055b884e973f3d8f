"""A person's session of voting on one run: which question comes next, on which sides its clips stand, votes and undos,
how fast it goes, what the run is doing meanwhile, and how it went. Neither window nor simulator here; `viewer.vote`
and `terminal` are the two faces of it.

A vote is on the disk before the next question is known: one transaction writes the one and claims the other.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from rlhf_control.data import GROUPS, Feedback, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.corrections import store_correction
from rlhf_control.feedback.schema import Asked, Tally, Vote
from rlhf_control.feedback.store import FeedbackStore

LEASE_SECONDS = 60.0  # a question is the annotator's for so long after the last sign of life
RENEW_SECONDS = 15.0
LEAST_SECONDS = 0.25  # that clips are there before an answer to them counts: nobody sees and judges in less
CLOSE_SECONDS = 3.0  # that giving a question back may wait for another writer: it comes back anyway
Side = int  # place on the screen, from the left
# What a comparison can be answered by: the ranks of the clips as they stand on the screen; None cannot tell.
LEFT, RIGHT, TIE = (0, 1), (1, 0), (0, 0)


@dataclass(frozen=True)
class Answer:
    """Holds what a person says to a question, before it is stored."""

    seen: tuple[int, ...] | None  # ranks of the clips in the order shown; None for a rating and for "cannot tell"
    value: float | None = None  # a rating
    words: str = "cannot tell"


@dataclass(frozen=True)
class Question:
    """Holds a query as it stands before the annotator."""

    asked: Asked
    shown: tuple[int, ...]  # the clips' places in the query, in the order shown

    @property
    def key(self) -> str:
        return self.asked.key

    @property
    def kind(self) -> str:
        return self.asked.kind

    @property
    def clips(self) -> tuple[str, ...]:
        """Returns the clips' digests in the order shown."""
        return tuple(self.asked.clips[place] for place in self.shown)

    def of_both(self, ranks: tuple[int, int]) -> tuple[int, ...]:
        """Returns the ranks of all clips in the order shown, given those of the left and the right one, or of both
        groups."""
        return tuple(rank for rank in ranks for _ in range(len(self.shown) // 2))

    def ranks(self, seen: Sequence[int]) -> tuple[int, ...]:
        """Returns the query's ranks, given those of the clips in the order shown."""
        by_place = dict(zip(self.shown, seen, strict=True))
        return tuple(by_place[place] for place in range(len(self.shown)))


@dataclass(frozen=True)
class Answered:
    """Holds one vote of this session, that can be taken back."""

    question: Question
    seen: tuple[int, ...] | None  # ranks of the clips in the order shown
    value: float | None
    seconds: float


class Session:
    """Asks one person after question. Every method may wait for the disk (some 20 ms), so a window calls them in
    another thread, one at a time.

    `question` is the one before the annotator, None while there is none. `done` holds the session's votes that can be
    taken back, the latest last. Seconds to answer are by the wall clock, from the first picture to the key, pauses
    included.
    """

    def __init__(
        self, store: FeedbackStore, annotator: str, *, seed: int | None = None, lease: float = LEASE_SECONDS
    ) -> None:
        self.store, self.annotator, self.lease = store, annotator, lease
        self.rng = np.random.default_rng(seed)
        self.question: Question | None = None
        self.done: list[Answered] = []
        self.undone = 0
        self.annotators = 0  # who answer each question; 0: not known yet
        self._sides: dict[str, tuple[int, ...]] = {}  # by key: a question that comes back stands as it stood

    def next(self) -> Question | None:
        """Returns the question before the annotator, or else the next one, if there is one."""
        if self.question is None and self.store.upcoming(self.annotator, 1):  # looks first: that needs no lock
            self._show(self.store.vote_and_claim(None, self.annotator, self.lease))
        return self.question

    def vote(
        self, seen: Sequence[int] | None, value: float | None = None, seconds: float = 0.0,
        question: Question | None = None,
    ) -> Question | None:  # fmt: skip
        """Commits an answer to `question` (default: the one before the annotator): the ranks of its clips in the order
        shown, or a value; neither is "cannot tell". Returns the next question. On an error (the disk is full) the
        question stays, and nothing is lost."""
        question = question or self.question
        if question is None:
            raise UserError("there is no question to answer")
        ranks = None if seen is None else question.ranks(seen)
        feedback = Feedback(ranks, self.annotator, seconds, value)
        vote = Vote(question.key, self.annotator, feedback, question.shown, time.time())
        following = self.store.vote_and_claim(vote, self.annotator, self.lease)
        self.done.append(Answered(question, None if seen is None else tuple(seen), value, seconds))
        return self._show(following)

    def undo(self) -> Question | None:
        """Takes the latest vote of this session back; its question is the next, on the sides it stood on."""
        if not self.done:
            return self.question
        last = self.done[-1].question
        vote = Vote(last.key, self.annotator, None, None, time.time())
        following = self.store.vote_and_claim(vote, self.annotator, self.lease, key=last.key)
        self.done.pop()
        self.undone += 1
        return self._show(following)

    def renew(self, seconds: float | None = None) -> bool:
        """Keeps the question for another while. Returns False if it was lost meanwhile (the machine slept) and somebody
        else has it now; then `question` is the next one."""
        held = self.store.renew(self.annotator, seconds or self.lease)
        if self.question is None or self.question.key in held:
            return True
        before = self.question.key
        following = self.store.vote_and_claim(None, self.annotator, self.lease, key=before)
        self._show(following)
        return following is not None and following.key == before

    def correct(self, place: Side, improved: Segments, question: Question) -> None:
        """Stores what the person did better than this question's clip at this place on the screen: a query with its
        answer. The question stays."""
        original = self.store.segments([question.clips[place]])[question.clips[place]]
        asked = question.asked
        at = {"round": asked.round, "index": asked.index}
        store_correction(self.store, original, improved, self.annotator, **at, policy=asked.policy)

    def close(self) -> None:
        """Gives back what is not answered; if another process keeps the store for itself, by and by."""
        self.question = None
        database = self.store.database
        usual, database.timeout, database.patient = database.timeout, min(database.timeout, CLOSE_SECONDS), False
        with suppress(UserError):
            self.store.release(None, self.annotator)
        database.timeout, database.patient = usual, True

    def upcoming(self, n: int) -> list[Question]:
        """Returns the question before the annotator and those that are likely to come after it, n in all."""
        return [self._placed(asked) for asked in self.store.upcoming(self.annotator, n)]

    def length(self, digest: str) -> int:
        """Counts the steps of a clip."""
        return len(self.store.segments([digest])[digest].obs)

    def has_state(self, question: Question) -> bool:
        """Tells whether its clips hold the simulator's states."""
        return self.store.segments(question.clips[:1])[question.clips[0]].state is not None

    def _show(self, asked: Asked | None) -> Question | None:
        self.question = None if asked is None else self._placed(asked)
        if asked is not None:  # gold has one more, so the fewest counts
            self.annotators = min(self.annotators or asked.annotators, asked.annotators)
        return self.question

    def left(self, tally: Tally, wanted: int) -> int:
        """Counts how many answers this annotator has still to give, of so many that the run wants from all."""
        return max(0, min(wanted - tally.answers, -(-wanted // max(1, self.annotators)) - tally.mine))

    def _placed(self, asked: Asked) -> Question:
        if asked.key not in self._sides:
            if asked.kind == GROUPS:  # which stay together
                halves = self.rng.permuted(np.arange(len(asked.clips)).reshape(2, -1), axis=1)
                places = halves[self.rng.permutation(2)].ravel()
            else:
                places = self.rng.permutation(len(asked.clips))
            self._sides[asked.key] = tuple(int(i) for i in places)
        return Question(asked, self._sides[asked.key])


# -- what is told meanwhile


# Situations of a session without a question. Each has its page in the window and its sentence on a terminal.
EMPTY, STARTING, WAITING, ANSWERED, ELSEWHERE, OTHERS, FINISHED, STOPPED, FAILED, LOST, ALL_DONE = SITUATIONS = (
    "empty", "starting", "waiting", "answered", "elsewhere", "others", "finished", "stopped", "failed", "lost",
    "all done",
)  # fmt: skip


HELD = (  # to who has answered, while the policy stays as it is
    "The policy stays as it is, for the answers do not show yet what is better. What helps: more of them, always by "
    'the same rule, and "cannot tell" rather than a guess.'
)
HELD_TO_THE_END = (  # the same where the run asks nothing more; a run's number of questions is fixed at its start
    "The policy stays as it is, for the answers do not show what is better, and this run asks nothing more. What "
    'helps: another run that asks more (--labels), answered always by the same rule, and "cannot tell" rather than a '
    "guess."
)
