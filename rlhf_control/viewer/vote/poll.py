"""Asks a run's folder what is asked, what comes next, what the run is doing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf_control.config.commands import LabelConfig
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling.run_state import News, read_news
from rlhf_control.labelling.session import Question, Session
from rlhf_control.viewer.kit.clip_buffer import AHEAD

LOCKED_SECONDS = 3.0  # that another program may keep the store locked before the person is told


@dataclass(frozen=True)
class Polled:
    """Holds what one poll of the run's folder brought."""

    session: Session
    news: News
    question: Question | None
    ahead: tuple[Question, ...]  # the one before the annotator and the next
    steps: Mapping[str, int]  # key -> length of its clips, of the longest one
    states: bool  # the simulator can go on from where they begin


def poll(run: Path, config: LabelConfig, before: Polled | None, claim: bool) -> Polled | None:
    """Waits for the disk. Opens the store the first time, and claims a question if there is none before the annotator.
    None while there is no store."""
    if before is None:
        path = run / "labels.sqlite"
        if not path.is_file():
            return None
        store = FeedbackStore(path, create=False, timeout=LOCKED_SECONDS, patient=False)
        store.database.patient = True  # from now on the window says what it waits for
        session = Session(store, config.annotator, seed=config.seed)
    else:
        session = before.session
    question = session.next() if claim else None
    ahead = session.upcoming(AHEAD + 1)
    if question is not None:  # it stays the first, even if somebody else could have it by now
        ahead = [question, *(other for other in ahead if other.key != question.key)]
    known = before.steps if before is not None else {}
    steps = {q.key: known.get(q.key) or max(map(session.length, q.clips)) for q in ahead}
    states = before.states if before is not None and known else bool(ahead) and session.has_state(ahead[0])
    news = read_news(run, session.store, session.annotator)
    return Polled(session, news, question, tuple(ahead), steps, states)
