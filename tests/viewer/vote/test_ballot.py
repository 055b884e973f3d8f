from rlhf_control.feedback.schema import Asked
from rlhf_control.labelling.session import LEAST_SECONDS, Answer, Question
from rlhf_control.viewer.vote.ballot import Ballot, order_words


def a_ballot(clips: int) -> Ballot:
    asked = Asked("key", "ranking", 0, 0, 0, "u", 1, None, None, 0.0, tuple("abcdef"[:clips]))
    return Ballot(Question(asked, tuple(range(clips))))


def test_answers_to_a_pair() -> None:
    ballot = a_ballot(2)
    assert ballot.answer("prefer 0") == Answer((0, 1), None, "A is better")
    assert ballot.answer("prefer 1") == Answer((1, 0), None, "B is better")
    assert ballot.answer("tie") == Answer((0, 0), None, "equal")
    assert ballot.answer("cannot tell") == Answer(None, None, "cannot tell")
    assert ballot.answer("") is None and ballot.answer("confirm") is None


def test_a_rating() -> None:
    assert a_ballot(1).answer("rate 4") == Answer(None, 4.0, "rated 4")


def test_a_ranking_in_the_making() -> None:
    ballot = a_ballot(4)
    assert ballot.answer("confirm") is None
    for action in ("place 2", "place 9", "tie switch", "place 0", "place 3"):
        assert ballot.arrange(action)
    assert ballot.order == ((2, 0), (3,)) and not ballot.tie
    assert ballot.answer("confirm") == Answer((0, 2, 0, 1), None, "3 = 1 > 4 > 2")
    assert ballot.arrange("undo") and ballot.order == ((2, 0),)
    assert ballot.answer("confirm") is None
    assert ballot.arrange("card 2") and ballot.arrange("undo") and ballot.order == ()
    assert not ballot.arrange("undo")  # now it means the last answer
    assert ballot.arrange("tie switch") and not ballot.tie  # nothing to tie with
    assert ballot.arrange("tie with 1") and ballot.order == ((1,),)


def test_what_was_on_the_screen_for_long_enough_was_seen() -> None:
    ballot = a_ballot(2)
    assert not ballot.seen(100.0)
    ballot.show(True, 10.0)
    ballot.show(True, 10.1)
    assert not ballot.seen(10.06) and not ballot.seen(10.0 + 0.9 * LEAST_SECONDS) and ballot.seen(10.0 + LEAST_SECONDS)
    ballot.show(False, 11.0)  # something else over it
    assert not ballot.seen(11.0)
    ballot.show(True, 12.0)
    assert not ballot.seen(12.1) and ballot.seen(12.0 + LEAST_SECONDS) and ballot.shown_at == 10.0


def test_only_what_says_something_about_the_clips_can_come_too_soon() -> None:
    assert a_ballot(2).miss("prefer 1") and a_ballot(2).miss("cannot tell") and a_ballot(1).miss("rate 3")
    assert not any(a_ballot(2).miss(action) for action in ("", "pause", "help", "confirm", "seek"))
    ballot = a_ballot(3)
    for action in ("place 0", "place 1"):
        ballot.arrange(action)
    assert ballot.whole() == ((0,), (1,), (2,))
    assert ballot.miss("place 2") and ballot.whole() is None  # the last place is no longer anybody's guess
    ballot.arrange("place 2")
    assert ballot.whole() == ((0,), (1,), (2,))


def test_the_clock_is_driven() -> None:
    ballot = a_ballot(2)
    for action in ("pause", "forward", "forward", "back", "faster"):
        assert ballot.control(action, 10)
    assert ballot.playback.frame(10) == 1 and ballot.playback.speed == 2.0 and ballot.playback.paused
    assert ballot.control("restart", 10) and ballot.control("pause", 10) and ballot.control("slower", 10)
    assert ballot.playback.frame(10) == 0 and not ballot.playback.paused
    assert not ballot.control("prefer 0", 10)


def test_an_order_in_words() -> None:
    assert order_words(((2,), (0, 1))) == "3 > 1 = 2"
