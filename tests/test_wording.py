import pytest

from rlhf_control.wording import counted, duration, question_of


def test_one_is_singular() -> None:
    assert [counted(n, "answer") for n in (0, 1, 2, 1000)] == ["0 answers", "1 answer", "2 answers", "1,000 answers"]
    assert [counted(n, "query lacks", "queries lack") for n in (1, 2)] == ["1 query lacks", "2 queries lack"]


def test_the_question_with_what_is_to_be_done() -> None:
    assert question_of(1, "") == question_of(1, "Which one does it better?") == "How well is it done?"
    assert question_of(2, "") == "Which one does it better?"
    assert question_of(2, "Which one jumps?") == "Which one jumps?"
    assert {question_of(n, "Which one jumps?") for n in (3, 6)} == {
        "Put them in order, the best first: Which one jumps?"
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (9.5, "10 s"), (11, "15 s"), (60, "60 s"), (95, "2 min"), (3601, "61 min"), (7200, "2.0 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
