"""A person's session of voting on one run: which question comes next, on which sides its clips stand, votes and undos,
how fast it goes, what the run is doing meanwhile, and how it went. Neither window nor simulator here; `viewer.label`
and `terminal` are the two faces of it.

A vote is on the disk before the next question is known: one transaction writes the one and claims the other.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, CORRECTION, RANKED, RATING, Feedback, Query, Segments
from rlhf_control.datacard import agreement, consistency, position, quartiles
from rlhf_control.errors import UserError
from rlhf_control.files import open_own
from rlhf_control.schema import Asked, Tally, Vote, new_vote, query_key
from rlhf_control.status import ENDED, Status, alive, read_status
from rlhf_control.store import FeedbackStore, in_force
from rlhf_control.wording import counted, duration

LEASE_SECONDS = 60.0  # a question is the annotator's for so long after the last sign of life
RENEW_SECONDS = 15.0
LEAST_SECONDS = 0.25  # that clips are there before an answer to them counts: nobody sees and judges in less
CLOSE_SECONDS = 3.0  # that giving a question back may wait for another writer: it comes back anyway
PACE_OF = 20  # votes, the latest, from which the speed is told
Side = int  # place on the screen, from the left
# What a comparison can be answered by: the ranks of the clips as they stand on the screen; None cannot tell.
LEFT, RIGHT, TIE = (0, 1), (1, 0), (0, 0)


@dataclass(frozen=True)
class Question:
    """A query as it stands before the annotator."""

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
        """Digests in the order shown."""
        return tuple(self.asked.clips[place] for place in self.shown)

    def ranks(self, seen: Sequence[int]) -> tuple[int, ...]:
        """The query's ranks, given those of the clips in the order shown."""
        by_place = dict(zip(self.shown, seen, strict=True))
        return tuple(by_place[place] for place in range(len(self.shown)))


@dataclass(frozen=True)
class Answered:
    """One vote of this session, that can be taken back."""

    question: Question
    seen: tuple[int, ...] | None  # ranks of the clips in the order shown
    value: float | None
    seconds: float


@dataclass(frozen=True)
class Pace:
    """How fast it goes. None before the first vote."""

    per_minute: float | None
    seconds_left: float | None  # until everything that the run will ask is answered, by this annotator alone


class Session:
    """Every method may wait for the disk (some 20 ms), so a window calls them in another thread, one at a time.

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
        """The question before the annotator, or else the next one, if there is one."""
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
        """Keeps the question for another while. False if it was lost meanwhile (the machine slept) and somebody else
        has it now; then `question` is the next one."""
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
        clips = Segments.stack([original.without_frames(), improved.without_frames()])
        query = Query(question.asked.round, question.asked.index, CORRECTION, clips, CORRECTION)
        parts = {part.digest(): part for part in (clips[0], clips[1])}
        asked = Asked(
            query_key(query), CORRECTION, 0, query.round, query.index, CORRECTION, 1, question.asked.policy, None,
            time.time(), tuple(parts),
        )  # fmt: skip
        self.store.add([asked], parts, [new_vote(asked.key, Feedback((1, 0), self.annotator))])

    def close(self) -> None:
        """Gives back what is not answered; if another process keeps the store for itself, by and by."""
        self.question = None
        database = self.store.database
        usual, database.timeout, database.patient = database.timeout, min(database.timeout, CLOSE_SECONDS), False
        with suppress(UserError):
            self.store.release(None, self.annotator)
        database.timeout, database.patient = usual, True

    def upcoming(self, n: int) -> list[Question]:
        """The question before the annotator and those that are likely to come after it, n in all."""
        return [self._placed(asked) for asked in self.store.upcoming(self.annotator, n)]

    def length(self, digest: str) -> int:
        """Steps of a clip."""
        return len(self.store.segments([digest])[digest].obs)

    def has_state(self, question: Question) -> bool:
        """Whether its clips hold the simulator's states."""
        return self.store.segments(question.clips[:1])[question.clips[0]].state is not None

    def _show(self, asked: Asked | None) -> Question | None:
        self.question = None if asked is None else self._placed(asked)
        if asked is not None:  # gold has one more, so the fewest counts
            self.annotators = min(self.annotators or asked.annotators, asked.annotators)
        return self.question

    def left(self, tally: Tally, wanted: int) -> int:
        """How many answers this annotator has still to give, of so many that the run wants from all."""
        return max(0, min(wanted - tally.answers, -(-wanted // max(1, self.annotators)) - tally.mine))

    def _placed(self, asked: Asked) -> Question:
        if asked.key not in self._sides:
            self._sides[asked.key] = tuple(int(i) for i in self.rng.permutation(len(asked.clips)))
        return Question(asked, self._sides[asked.key])


# -- what is told meanwhile


def pace(done: Sequence[Answered], left: int) -> Pace:
    """From the latest votes; `left` is how many answers are still wanted."""
    latest = [answered.seconds for answered in done[-PACE_OF:]]
    if not latest:
        return Pace(None, None)
    typical = max(0.05, sorted(latest)[len(latest) // 2])  # a coffee break is no sign of slowness
    return Pace(60 / typical, left * typical)


def goal(tally: Tally, status: Status | None) -> int:
    """How many answers the run will want in all, as far as is known."""
    return max(tally.wanted, status.wanted if status is not None else 0, tally.answers)


@dataclass(frozen=True)
class News:
    """What is known about the run: read now and then, not for every frame."""

    status: Status | None
    lively: bool  # the run is at work
    tally: Tally


def read_news(run: Path, store: FeedbackStore, annotator: str) -> News:
    status = read_status(run)
    return News(status, status is not None and alive(status), store.tally(annotator))


# Situations of a session without a question. Each has its page in the window and its sentence on a terminal.
EMPTY, STARTING, WAITING, ANSWERED, ELSEWHERE, OTHERS, FINISHED, STOPPED, FAILED, LOST, ALL_DONE = SITUATIONS = (
    "empty", "starting", "waiting", "answered", "elsewhere", "others", "finished", "stopped", "failed", "lost",
    "all done",
)  # fmt: skip


def situation(news: News) -> str:
    """Why there is no question: what the run is at, and whether others are answering."""
    status, tally = news.status, news.tally
    if tally.elsewhere and tally.answers < tally.wanted:  # these may come back, whatever the run does
        return ELSEWHERE
    if status is None:
        return ALL_DONE if tally.wanted else EMPTY
    if status.state in ENDED:
        return {"finished": FINISHED, "stopped": STOPPED, "failed": FAILED}[status.state]
    if not news.lively:
        return LOST
    last = not status.more
    if tally.answers < tally.wanted and (status.state == "waiting" or last):  # by nobody who is there
        return OTHERS
    if last:
        return ANSWERED
    return STARTING if status.state == "starting" else WAITING


HELD = (  # to who has answered, while the policy stays as it is
    "The policy stays as it is, for the answers do not show yet what is better. What helps: more of them, always by "
    'the same rule, and "cannot tell" rather than a guess.'
)


def run_line(news: News | None, now: float) -> tuple[str, str]:
    """The run's state in a few words, and its mood: "good", "busy", "bad" or "quiet"."""
    status = news.status if news is not None else None
    if news is None or status is None:
        return "no run beside this window", "quiet"
    if status.state == "finished":
        over = "the run has finished"
        return (f"{over}; nothing was learned", "bad") if status.message else (over, "quiet")
    if status.state == "stopped":
        return "the run is stopped; votes are kept", "bad"
    if status.state == "failed":
        return "the run failed; votes are kept", "bad"
    if not news.lively:
        return "the run is gone; votes are kept", "bad"
    if status.state == "waiting":
        left = max(0, news.tally.wanted - news.tally.answers)
        return (f"the run waits for {counted(left, 'more answer')}" if left else "the run goes on"), "good"
    verb = "starting" if status.state == "starting" else "holding the policy" if status.holding else "training"
    if status.next_question is not None and status.next_question > now:
        return f"{verb}, next question in about {duration(status.next_question - now)}", "busy"
    if not status.more:
        return f"{verb}, no more questions", "busy"
    return (f"{verb}, next question soon" if status.state != "starting" else "starting"), "busy"


# -- what the model predicted


class Predictions:
    """RUN/predictions.jsonl, that the run writes as it asks: how likely it held the first clip of a pair to be
    preferred. Only for showing after the vote."""

    def __init__(self, run: Path) -> None:
        self.path = run / "predictions.jsonl"
        self._read = 0
        self._first: dict[str, float] = {}

    def expected(self, question: Question) -> tuple[Side, float] | None:
        """The side that the model expected to be preferred, and its probability (at least 1/2); None if it said
        nothing about this pair."""
        if question.kind != COMPARISON:
            return None
        self._refresh()
        first = self._first.get(question.key)
        if first is None:
            return None
        left = first if question.shown[0] == 0 else 1 - first
        return (0, left) if left >= 0.5 else (1, 1 - left)

    def _refresh(self) -> None:
        try:
            with open_own(self.path) as file:
                file.seek(self._read)
                new = file.read()
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                self._first[str(row["key"])] = min(1.0, max(0.0, float(row["probability_first"])))
            except (ValueError, KeyError, TypeError):
                continue


# -- how it went


@dataclass(frozen=True)
class Fact:
    """One line of the summary."""

    name: str
    value: str
    note: str = ""  # what to make of it


def summary(session: Session) -> list[Fact]:
    """How the session went, and how far this annotator's answers on the run can be trusted."""
    asked, votes = {query.key: query for query in session.store.asked()}, in_force(session.store.votes()).values()
    all_given = [(asked[vote.query], vote.feedback) for vote in votes if vote.feedback is not None]
    mine = [vote for vote in votes if vote.annotator == session.annotator]
    own = [(query, feedback) for query, feedback in all_given if feedback.annotator == session.annotator]
    shared = {vote.query for vote in mine}
    facts = [
        _count(session), _speed(session), _consistency(consistency(own)),
        _position(position([(asked[vote.query], vote) for vote in mine])),
        _agreement([(query, feedback) for query, feedback in all_given if query.key in shared]),
    ]  # fmt: skip
    return [fact for fact in facts if fact is not None]


def summary_text(facts: Sequence[Fact]) -> str:
    """The summary as lines for a terminal."""
    width = max(len(fact.name) for fact in facts)
    return "\n".join(f"{f.name:<{width}}  {f.value}{f'  ({f.note})' if f.note else ''}" for f in facts)


def _count(session: Session) -> Fact:
    n = len(session.done)
    cannot = sum(a.seen is None and a.value is None for a in session.done)
    ties = sum(a.seen is not None and len(set(a.seen)) < len(a.seen) for a in session.done)
    parts = [f"{k} {word}" for k, word in ((ties, "tied"), (cannot, "cannot tell"), (session.undone, "undone")) if k]
    return Fact("votes", str(n), ", ".join(parts))


def _speed(session: Session) -> Fact | None:
    q = quartiles([answered.seconds for answered in session.done])
    if q is None:
        return None
    return Fact(
        "seconds a vote", f"{q['median']:.1f}", f"half between {q['lower_quartile']:.1f} and {q['upper_quartile']:.1f}"
    )


def _consistency(c: Mapping[str, Any]) -> Fact:
    if not c["repeats"]:
        return Fact("asked again", "none yet", "a few pairs come twice")
    same = round(c["same"]["share"] * c["repeats"])
    low, high = c["same"]["interval"]
    note = f"{c['same']['share']:.0%}; 95 % interval {low:.0%} to {high:.0%}"
    return Fact("same answer when asked again", f"{same} of {c['repeats']}", note)


def _position(p: Mapping[str, Any]) -> Fact:
    first = p["first_preferred"]
    if first is None:
        return Fact("left clip preferred", "no clear answers yet")
    low, high = first["interval"]
    lean = "no sign of a habit" if low <= 0.5 <= high else f"leans {'left' if low > 0.5 else 'right'}: sides are random"
    return Fact("left clip preferred", f"{first['share']:.0%} of {p['clear']}", lean)


def _agreement(given: Sequence[tuple[Asked, Feedback]]) -> Fact | None:
    """With the other annotators, about what this one judged too. The kind with the most to tell."""
    found = [a for kind in (*RANKED, RATING) if (a := agreement([(q, f) for q, f in given if q.kind == kind]))]
    if not found:
        return None
    best = max(found, key=lambda a: a["items"])
    kappa = "undefined" if best["kappa"] is None else f"{best['kappa']:.2f}"
    return Fact("agreement with others", f"kappa {kappa}", f"{best['items']} judged by {best['annotators']} annotators")
