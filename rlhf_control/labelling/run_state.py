"""What a run says of itself to those who label, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_control.feedback.schema import Tally
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling.session import (
    ALL_DONE,
    ANSWERED,
    ELSEWHERE,
    EMPTY,
    FAILED,
    FINISHED,
    LOST,
    OTHERS,
    STARTING,
    STOPPED,
    WAITING,
    Answered,
)
from rlhf_control.runs.status import ENDED, Status, alive, read_status
from rlhf_control.wording import counted, duration

PACE_OF = 20  # votes, the latest, from which the speed is told


@dataclass(frozen=True)
class Pace:
    """Says how fast it goes. None before the first vote."""

    per_minute: float | None
    seconds_left: float | None  # until everything that the run will ask is answered, by this annotator alone


def pace(done: Sequence[Answered], left: int) -> Pace:
    """Returns the pace of the latest votes; `left` is how many answers are still wanted."""
    latest = [answered.seconds for answered in done[-PACE_OF:]]
    if not latest:
        return Pace(None, None)
    typical = max(0.05, sorted(latest)[len(latest) // 2])  # a coffee break is no sign of slowness
    return Pace(60 / typical, left * typical)


def goal(tally: Tally, status: Status | None) -> int:
    """Counts how many answers the run will want in all, as far as is known."""
    return max(tally.wanted, status.wanted if status is not None else 0, tally.answers)


@dataclass(frozen=True)
class News:
    """Holds what is known about the run: read now and then, not for every frame."""

    status: Status | None
    lively: bool  # the run is at work
    tally: Tally


def read_news(run: Path, store: FeedbackStore, annotator: str) -> News:
    status = read_status(run)
    return News(status, status is not None and alive(status), store.tally(annotator))


def situation(news: News) -> str:
    """Says why there is no question: what the run is at, and whether others are answering."""
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


def run_line(news: News | None, now: float) -> tuple[str, str]:
    """Returns the run's state in a few words, and its mood: "good", "busy", "bad" or "quiet"."""
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
    activity = "starting" if status.state == "starting" else "holding the policy" if status.holding else "training"
    if status.next_question is not None and status.next_question > now:
        return f"{activity}, next question in about {duration(status.next_question - now)}", "busy"
    if not status.more:
        return f"{activity}, no more questions", "busy"
    return (f"{activity}, next question soon" if status.state != "starting" else "starting"), "busy"
