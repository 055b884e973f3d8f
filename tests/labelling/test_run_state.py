from pathlib import Path

import pytest

from rlhf_control.feedback.schema import Tally
from rlhf_control.labelling.run_state import News, goal, pace, read_news, run_line, situation
from rlhf_control.labelling.session import (
    ALL_DONE,
    ELSEWHERE,
    EMPTY,
    FAILED,
    FINISHED,
    LEFT,
    LOST,
    OTHERS,
    STARTING,
    STOPPED,
    WAITING,
    Answered,
)
from rlhf_control.runs.status import write_status
from tests.sessions import make_session, status


def test_pace_by_hand() -> None:
    done = [Answered(None, LEFT, None, seconds) for seconds in (9.0, 9.0, *[3.0] * 11, *[1.0] * 8, 600.0)]  # type: ignore[arg-type]
    assert pace([], 10).per_minute is None
    told = pace(done, 10)  # the median of the latest twenty
    assert told.per_minute == pytest.approx(20) and told.seconds_left == pytest.approx(30)


OPEN, DONE, THEIRS = Tally(3, 9, 3, 0), Tally(9, 9, 9, 0), Tally(8, 9, 8, 1)


@pytest.mark.parametrize(
    ("state", "lively", "tally", "expected"),
    [
        ("starting", True, DONE, STARTING), ("training", True, DONE, WAITING), ("waiting", True, DONE, WAITING),
        ("waiting", True, OPEN, OTHERS), ("training", True, OPEN, WAITING), ("waiting", True, THEIRS, ELSEWHERE),
        ("training", False, DONE, LOST), ("finished", False, DONE, FINISHED),
        ("stopped", False, DONE, STOPPED), ("failed", False, DONE, FAILED), ("failed", False, THEIRS, ELSEWHERE),
        (None, False, DONE, ALL_DONE), (None, False, THEIRS, ELSEWHERE), (None, False, Tally(0, 0, 0, 0), EMPTY),
    ],
)  # fmt: skip
def test_situations(state: str | None, lively: bool, tally: Tally, expected: str) -> None:
    assert situation(News(None if state is None else status(state), lively, tally)) == expected


def test_after_the_last_answer_no_question_is_promised() -> None:
    for state in ("training", "waiting"):
        assert situation(News(status(state, more=False), True, DONE)) == "answered"
        assert situation(News(status(state, more=False), True, OPEN)) == "others"
    assert situation(News(status("training"), True, OPEN)) == "waiting"


def test_the_run_in_a_line() -> None:
    now = 1000.0
    assert run_line(None, now) == ("no run beside this window", "quiet")
    for told, lively, tally, line, mood in [
        (status("waiting"), True, OPEN, "the run waits for 6 more answers", "good"),
        (status("waiting"), True, THEIRS, "the run waits for 1 more answer", "good"),
        (status("waiting"), True, DONE, "the run goes on", "good"),
        (status("training", next_question=now + 17), True, DONE, "training, next question in about 20 s", "busy"),
        (status("training"), True, DONE, "training, next question soon", "busy"),
        (status("training", more=False), True, DONE, "training, no more questions", "busy"),
        (status("training", holding=True), True, DONE, "holding the policy, next question soon", "busy"),
        (status("starting"), True, DONE, "starting", "busy"),
        (status("training"), False, DONE, "the run is gone; votes are kept", "bad"),
        (status("stopped"), False, DONE, "the run is stopped; votes are kept", "bad"),
        (status("failed"), False, DONE, "the run failed; votes are kept", "bad"),
        (status("finished"), False, DONE, "the run has finished", "quiet"),
        (status("finished", message="so"), False, DONE, "the run has finished; nothing was learned", "bad"),
    ]:
        assert run_line(News(told, lively, tally), now) == (line, mood)


def test_news_of_a_run(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    assert read_news(tmp_path, session.store, "me") == News(None, False, Tally(0, 3, 0, 0))
    write_status(tmp_path, status(wanted=100))
    news = read_news(tmp_path, session.store, "me")
    assert news.lively and goal(news.tally, news.status) == 100 and goal(news.tally, None) == 3
