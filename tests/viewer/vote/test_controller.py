import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, SUCCESS, Feedback, Query
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import write_status
from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.vote import ballot as ballot_module
from rlhf_control.viewer.vote import controller as controller_module
from rlhf_control.viewer.vote import state as state_module
from rlhf_control.viewer.vote.parts import track_place
from rlhf_control.viewer.vote.question_page import group_places, strip_place
from tests.conftest import random_segments
from tests.fake_clips import FRAMES, FakeClips
from tests.voting import a_status, at_the_window, make_run


def given(store: FeedbackStore) -> list[Feedback | None]:
    return [vote.feedback for vote in store.votes()]


# -- answers


@pytest.mark.parametrize("size", ["1280x720", "640x480"])
def test_one_key_or_click_compares_two_groups_which_stay_together(tmp_path: Path, size: str) -> None:
    run = make_run(tmp_path, 5, GROUPS, 6)
    with at_the_window(run, size) as person:
        told = []
        for way in ("left", "d", "up", "s", "click"):
            person.ready()
            shown = person.question.shown
            assert {*shown[:3]} in ({0, 1, 2}, {3, 4, 5})
            told.append(shown[0] < 3)
            assert not person.state.correctable()
            person.shot(f"groups-{size}-{way}")
            if way == "click":
                before = len(person.votes())
                person.click("prefer 1")
                person.until(lambda n=before: len(person.votes()) > n)  # type: ignore[misc]
            else:
                person.vote(way)
        person.until(lambda: person.state.ballot is None)
    left, right = ((0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0))  # the query's first group is the better one, or its second
    sides = [(left, right) if first else (right, left) for first in told]
    answers = [feedback.ranks for feedback in given(FeedbackStore(run / "labels.sqlite")) if feedback]
    assert answers == [sides[0][0], sides[1][1], (0,) * 6, None, sides[4][1]]


KEYS_OF = {(0, 1): ("left", "a"), (1, 0): ("right", "d"), (0, 0): ("up", "w"), None: ("down", "s")}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers count at once: many of them are given."""
    monkeypatch.setattr(ballot_module, "LEAST_SECONDS", 0.0)


def test_scripted_keys_reproduce_an_oracles_rows(tmp_path: Path, hurried: None) -> None:
    """An oracle answers forty pairs; a person presses, for each, the key that says the same of the clips as they stand
    on the screen. Queries, ranks and kinds are the same, row by row."""
    run = make_run(tmp_path, 40)
    store = FeedbackStore(run / "labels.sqlite")
    rng = np.random.default_rng(5)
    choices = [(0, 1), (1, 0), (0, 0), None]
    rows = [(asked.key, choices[rng.integers(4)]) for asked in store.asked()]
    with at_the_window(run) as person:
        for i, (key, ranks) in enumerate(rows):
            person.ready()
            assert person.question.key == key
            seen = None if ranks is None else tuple(ranks[place] for place in person.question.shown)
            person.vote(KEYS_OF[seen][i % 2])  # type: ignore[index]
        person.until(lambda: person.state.ballot is None)
    votes = store.votes()
    assert [(vote.query, vote.feedback.ranks) for vote in votes if vote.feedback] == rows
    assert {vote.shown for vote in votes} == {(0, 1), (1, 0)}
    assert all(vote.feedback and 0 <= vote.feedback.seconds < 5 for vote in votes)  # type: ignore[operator]


@pytest.mark.parametrize("size", [3, 4, 6])
def test_scripted_keys_reproduce_rankings(tmp_path: Path, size: int, hurried: None) -> None:
    run = make_run(tmp_path, 6, RANKING, size)
    store = FeedbackStore(run / "labels.sqlite")
    rng = np.random.default_rng(size)
    rows = []
    with at_the_window(run) as person:
        for asked in store.asked():
            person.ready()
            raw = rng.integers(0, size, size)
            ranks = tuple(int(r) for r in np.unique(raw, return_inverse=True)[1])  # dense, with ties
            rows.append((asked.key, ranks))
            seen = [ranks[place] for place in person.question.shown]
            last = -1
            for clip in sorted(range(size), key=lambda c: seen[c]):
                person.press(str(clip + 1), shift=seen[clip] == last)
                last = seen[clip]
            person.vote("enter")
    assert [(vote.query, vote.feedback.ranks) for vote in store.votes() if vote.feedback] == rows


def test_scripted_keys_reproduce_ratings(tmp_path: Path) -> None:
    run = make_run(tmp_path, 6, RATING, 1)
    with at_the_window(run, levels=7) as person:
        for key in ("1", "7", "s", "4", "8"):
            person.ready()
            if key == "8":
                person.press(key)  # there are but seven levels
                assert not person.controller.worker.doing("vote")
            else:
                person.vote(key)
    assert [f and f.value for f in given(FeedbackStore(run / "labels.sqlite"))] == [1, 7, None, 4]


def test_success_and_failure_by_key_and_click(tmp_path: Path) -> None:
    """What is seen at the end is shown first; R shows the whole episode; what was taken back is asked again."""
    run = make_run(tmp_path, 8, SUCCESS, 1, a_status(step_seconds=2.0))
    with at_the_window(run) as person:
        for key in ("right", "a", "s", "y", "backspace", "n", "1", "up"):
            person.ready()
            if key in ("1", "up"):  # which mean nothing here
                person.press(key)
                assert not person.controller.worker.doing("vote")
            else:
                person.vote(key)
        person.ready()
        person.shot("success")
        assert person.state.ballot is not None
        clock = person.state.ballot.playback
        assert (clock.length, clock.first) == (10.0, 6.0) and clock.at >= 6.0
        person.press("r")
        assert clock.first == 0 and clock.at < 6.0
        for action in ("mark 1", "mark 0"):
            person.ready()
            before = len(person.votes())
            person.click(action)
            person.until(lambda before=before: len(person.votes()) > before)  # type: ignore[misc]
    marks = [f and f.value for f in given(FeedbackStore(run / "labels.sqlite"))]
    assert marks == [1.0, 0.0, None, 1.0, None, 0.0, 1.0, 0.0]


def test_every_answer_can_be_clicked(tmp_path: Path) -> None:
    run = make_run(tmp_path, 5)
    with at_the_window(run) as person:
        expected = []
        for action, seen in (("prefer 0", (0, 1)), ("prefer 1", (1, 0)), ("tie", (0, 0)), ("cannot tell", None)):
            person.ready()
            expected.append(None if seen is None else person.question.ranks(seen))
            n = len(expected)
            person.click(action)
            person.until(lambda n=n: len(person.votes()) == n)  # type: ignore[misc]
        person.ready()
        person.click("undo")
        person.until(lambda: len(person.votes()) == 5)
    assert [f and f.ranks for f in given(FeedbackStore(run / "labels.sqlite"))] == [*expected, None]


@pytest.mark.parametrize("kind", ["key", "click", "rating", "cannot tell"])
def test_a_double_tap_is_one_vote(tmp_path: Path, kind: str) -> None:
    """The second press comes as soon as the next clips are on the screen: it is not counted, and that is said."""
    run = make_run(tmp_path, 5, RATING, 1) if kind == "rating" else make_run(tmp_path)
    with at_the_window(run) as person:

        def answer() -> None:
            if kind == "click":
                person.click("prefer 0")
            else:
                person.press({"key": "left", "rating": "4", "cannot tell": "s"}[kind])

        def next_on_screen() -> bool:
            ballot = person.state.ballot
            return ballot is not None and ballot.question != first and ballot.since is not None

        person.ready()
        first = person.question
        answer()
        person.until(next_on_screen)
        answer()
        assert "Not counted" in person.state.notice[0] and not person.controller.worker.doing("vote")
        person.ready()
        answer()  # a fast voter
        person.until(lambda: len(person.votes()) == 2)
        assert all(vote.feedback.seconds < 1 for vote in person.votes())


def test_a_press_while_the_last_answer_is_written_is_not_lost_silently(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path)) as person:
        person.ready()
        person.press("left")
        person.press("right")
        assert "Not counted" in person.state.notice[0]
        person.ready()
        assert len(person.votes()) == 1


def test_a_key_that_was_pressed_in_a_long_frame_counts_as_early(tmp_path: Path) -> None:
    """Nobody knows when in that frame it was pressed, and the clips may not have been there."""
    with at_the_window(make_run(tmp_path)) as person:
        person.until(lambda: person.state.ballot is not None and person.state.ballot.since is not None)
        time.sleep(2 * ballot_module.LEAST_SECONDS)
        person.press("left")
        assert "Not counted" in person.state.notice[0]
        person.ready()
        person.vote("left")
        assert len(person.votes()) == 1


def test_help_over_the_clips_hides_them(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path)) as person:
        person.ready()
        person.press("h")
        person.rest(ballot_module.LEAST_SECONDS)
        person.press("left")  # closes the help
        person.press("left")
        assert not person.state.help and "Not counted" in person.state.notice[0]
        person.ready()
        person.vote("left")


def test_an_undo_tapped_twice_takes_one_answer_back(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path)) as person:
        for _ in range(2):
            person.ready()
            last = person.question
            person.vote("left")
        person.until(lambda: person.state.ballot is not None and person.state.ballot.since is not None)
        person.press("backspace")  # at once: what it takes back was seen
        person.until(lambda: person.question == last and person.state.ballot.since is not None)  # type: ignore[union-attr]
        person.press("backspace")
        assert "Not counted" in person.state.notice[0]
        person.ready()
        assert person.question == last and len(person.votes()) == 3


def test_an_order_in_which_a_key_was_missed_is_confirmed_only_whole(tmp_path: Path) -> None:
    """Of 2134 the first was too soon: what is left over is no last place."""
    with at_the_window(make_run(tmp_path, 1, RANKING, 4)) as person:
        person.until(lambda: person.state.ballot is not None and person.state.ballot.since is not None)
        person.press("2")
        assert "Not counted" in person.state.notice[0]
        person.ready()
        for key in ("1", "3", "4", "enter"):
            person.press(key)
        assert not person.controller.worker.doing("vote") and person.state.ballot.order == ((0,), (2,), (3,))  # type: ignore[union-attr]
        for key in ("4", "3", "1", "2", "1", "3"):
            person.press(key)
        expected = person.question.ranks((1, 0, 2, 3))
        with pytest.raises(KeyError):
            person.window.place_of("confirm")
        person.press("4")
        person.vote("enter")
        assert person.votes()[0].feedback.ranks == expected


def test_nothing_is_answered_before_it_was_seen(tmp_path: Path) -> None:
    clips = FakeClips(lazy=True)
    with at_the_window(make_run(tmp_path), clips=clips) as person:
        person.until(lambda: person.state.ballot is not None)
        person.rest(1.0)
        for key in ("left", "right", "up", "down"):
            person.press(key)
        person.rest(0.1)
        assert person.votes() == [] and not person.state.answerable()
        with pytest.raises(KeyError):
            person.window.place_of("prefer 0")
        clips.draw()
        person.ready()
        person.vote("left")
        assert person.votes()[0].feedback.seconds < 1  # from the first picture on, not from the question


def test_undo_brings_the_question_back_at_once(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path)) as person:
        seen = []
        for _ in range(3):
            person.ready()
            seen.append(person.question)
            person.vote("left")
        person.ready()
        for key, ctrl, before in (("backspace", False, seen[2]), ("z", True, seen[1]), ("backspace", False, seen[0])):
            person.press(key, ctrl=ctrl)
            person.until(lambda before=before: person.question == before)  # type: ignore[misc]
            person.ready()
        person.press("backspace")  # nothing is left to take back
        person.vote("right")
        assert person.question == seen[1]
        assert [vote.feedback is None for vote in person.votes()] == [False] * 3 + [True] * 3 + [False]


def test_a_vote_that_cannot_be_saved_is_asked_for_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with at_the_window(run) as person:
        person.ready()
        before, session = person.question, person.state.session
        assert session is not None
        session.store.database.hurry(0.05)
        db = sqlite3.connect(run / "labels.sqlite")
        db.execute("BEGIN EXCLUSIVE")
        person.press("left")
        person.until(lambda: "Not saved" in person.state.notice[0])
        db.close()
        assert person.question == before
        person.until(person.state.answerable)
        person.vote("left")
        assert len(person.votes()) == 1


def test_a_locked_store_is_waited_for_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_control.viewer.vote.controller.LOCKED_SECONDS", 0.05)
    run = make_run(tmp_path)
    with at_the_window(run) as person:
        person.ready()
        before, session = person.question, person.state.session
        assert session is not None
        session.store.database.timeout = 0.05
        with closing(sqlite3.connect(run / "labels.sqlite")) as db:
            db.execute("BEGIN EXCLUSIVE")
            person.press("left")
            person.until(lambda: "locked" in person.state.notice[0])
            assert person.question == before
        person.until(lambda: person.question != before)
        assert len(person.votes()) == 1


def test_the_model_is_told_about_after_the_vote_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    keys = [asked.key for asked in FeedbackStore(run / "labels.sqlite").asked()]
    (run / "predictions.jsonl").write_text("".join(f'{{"key": "{key}", "probability_first": 0.9}}\n' for key in keys))
    for asked_for in (False, True):
        with at_the_window(run, show_prediction=asked_for) as person:
            person.ready()
            side = "AB"[person.question.shown.index(0)]
            assert person.state.expected == ""
            person.vote("left")
            person.until(lambda: not person.controller.worker.doing("expected"))
            assert person.state.expected == (f"The model expected {side} (90%)" if asked_for else "")


# -- rankings by mouse


def test_a_ranking_by_dragging(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path, 2, RANKING, 4)) as person:
        person.ready()
        ballot = person.state.ballot
        assert ballot is not None
        x, y, width, height = strip_place(person.window)
        person.drag("place 2", x + width / 2, y + height / 2)
        assert ballot.order == ((2,),)
        person.click("place 0")
        assert ballot.order == ((2,), (0,))
        first = group_places(person.window, ballot.order, 4)[0]
        person.drag("place 3", first[0] + first[2] / 2, first[1] + first[3] / 2)  # onto it: a tie
        assert ballot.order == ((2, 3), (0,))
        person.drag("card 0", first[0] - 2, first[1] + 5)  # before the best
        assert ballot.order == ((0,), (2, 3))
        person.drag("card 3", 40, 200)  # out of the order
        person.drag("place 1", 40, 200)  # let go beside it
        assert ballot.order == ((0,), (2,))
        person.click("card 2")
        person.press("backspace")
        assert ballot.order == () and person.votes() == []
        with pytest.raises(KeyError):
            person.window.place_of("confirm")
        for key in ("2", "t", "1", "3"):
            person.press(key)
        assert ballot.order == ((1, 0), (2,))
        expected = person.question.ranks((0, 0, 1, 2))  # the one that is left comes last
        person.click("confirm")
        person.until(lambda: len(person.votes()) == 1)
        assert person.votes()[0].feedback.ranks == expected


# -- the clock of the clips


def test_keys_and_buttons_drive_the_clips(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path, status=a_status(step_seconds=0.2))) as person:
        person.ready()
        playback = person.state.ballot.playback  # type: ignore[union-attr]
        assert playback.length == pytest.approx(1.0)
        person.rest(0.2)
        assert playback.at > 0.1
        person.press("space")
        before = playback.at
        person.rest(0.1)
        assert playback.at == before
        person.press("r")
        assert playback.at == 0
        person.press(".")
        person.press(".")
        person.press(",")
        assert playback.frame(FRAMES) == 1
        person.press("[", text="[")
        assert playback.speed == 0.5
        person.click("faster")
        person.click("faster")
        assert playback.speed == 2.0
        person.click("forward")
        assert playback.frame(FRAMES) == 2
        left, y, width, height = track_place(person.window, "comparison", 2)
        person.mouse(pygame.MOUSEBUTTONDOWN, left + width * 0.52, y + height / 2)
        assert playback.frame(FRAMES) == 10
        person.mouse(pygame.MOUSEMOTION, left + width * 0.77, y - 50)
        assert playback.frame(FRAMES) == 15
        person.mouse(pygame.MOUSEBUTTONUP, left, y)
        person.click("pause")
        person.vote("left")
        person.ready()
        following = person.state.ballot.playback  # type: ignore[union-attr]
        assert following.speed == 2.0 and not following.paused and person.votes()


def test_a_step_key_that_is_held_repeats(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path, status=a_status(step_seconds=0.2))) as person:
        person.ready()
        person.press("r")
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_PERIOD, mod=0, unicode="."))
        person.rest(0.75)
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_PERIOD, mod=0))
        assert 3 <= person.state.ballot.playback.frame(FRAMES) <= 10  # type: ignore[union-attr]


def test_another_camera(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path)) as person:
        person.ready()
        for expected in (1, 2, 0):
            person.press("c")
            assert person.state.camera == expected
        person.clips.names = []  # not known yet
        person.press("c")
        assert person.state.camera == 0


def test_clips_are_ordered_four_questions_ahead(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path, 8)) as person:
        person.ready()
        ahead = person.state.session.upcoming(5)  # type: ignore[union-attr]
        assert person.clips.wished == [digest for question in ahead for digest in question.clips]
        person.vote("left")
        person.until(lambda: person.clips.wished[0] == ahead[1].clips[0] and len(person.clips.wished) == 10)


# -- situations


def test_a_clip_that_cannot_be_shown_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "LEAST_SECONDS", 60.0)
    clips = FakeClips()
    run = make_run(tmp_path)
    first = FeedbackStore(run / "labels.sqlite").asked()[0].clips[1]
    clips.broken[first] = "it is damaged"
    with at_the_window(run, clips=clips) as person:
        person.until(lambda: person.state.ballot is not None and person.controller.painter.drawn is not None)
        person.rest(0.1)
        for key in ("left", "s"):
            person.press(key)
            assert "Not counted" in person.state.notice[0]
        monkeypatch.setattr(state_module, "LEAST_SECONDS", 0.0)  # it has been read
        person.vote("s")
        person.ready()
        assert given(FeedbackStore(run / "labels.sqlite"))[0].ranks is None  # type: ignore[union-attr]


def test_waiting_and_a_question_that_comes(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        person.ready()
        person.vote("left")
        person.until(lambda: person.state.ballot is None)
        write_status(run, a_status("training"))
        person.rest(0.7)
        store.ask([Query(1, 0, "u", random_segments(np.random.default_rng(9), 2, 5))])
        person.ready()
        assert person.question.asked.round == 1
        person.press("backspace")
        person.until(lambda: person.question.asked.round == 0)


def test_the_last_answer_can_be_taken_back_while_the_run_trains(tmp_path: Path) -> None:
    with at_the_window(make_run(tmp_path, 1)) as person:
        person.ready()
        person.vote("left")
        person.until(lambda: person.state.ballot is None)
        person.rest(0.6)
        person.click("undo")
        person.ready()


def test_an_absent_annotator_does_not_keep_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "AWAY_SECONDS", 2.0)
    monkeypatch.setattr(controller_module, "RENEW_SECONDS", 0.1)
    run = make_run(tmp_path, 1)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        person.ready()
        person.state.session.lease = 0.4  # type: ignore[union-attr]
        person.until(lambda: person.state.away)
        person.until(lambda: store.claim("you", 60) is not None)
        person.press("left")  # back again; this key is no vote
        person.until(lambda: person.state.ballot is None)
        assert not person.state.away and person.votes() == [] and "Somebody else" in person.state.notice[0]


def test_a_slow_thinker_keeps_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "RENEW_SECONDS", 0.1)
    run = make_run(tmp_path, 1)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        person.ready()
        person.state.session.lease = 3.0  # type: ignore[union-attr]
        person.rest(4.0)
        assert store.claim("you", 60) is None


def test_two_annotators_never_get_the_same_question(tmp_path: Path) -> None:
    run = make_run(tmp_path, 7)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        for _ in range(3):
            person.ready()
            person.vote("left")
            you = store.claim("you", 60)
            assert you is not None
            store.vote(you[0], Feedback((0, 1), "you"))
        person.ready()
        person.vote("left")
        person.until(lambda: person.state.ballot is None)
    assert len({vote.query for vote in store.votes()}) == 7


def test_a_store_that_cannot_be_read_and_then_can(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    content = (run / "labels.sqlite").read_bytes()
    (run / "labels.sqlite").write_bytes(b"nonsense" * 1000)
    with at_the_window(run) as person:
        person.until(lambda: person.state.trouble)
        (run / "labels.sqlite").write_bytes(content)
        person.press("r")
        person.ready()


def test_leaving_shows_how_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    store = FeedbackStore(run / "labels.sqlite")
    with at_the_window(run) as person:
        person.ready()
        person.vote("left")
        person.ready()
        before = person.question
        person.press("escape")
        person.until(lambda: person.state.summary_since is not None)
        assert person.state.facts[0].value == "1" and person.state.going
        assert store.claim("you", 60)[0] == before.key  # type: ignore[index]  # given back already
        store.release(None, "you")
        person.press("backspace")  # on second thoughts
        person.ready()
        person.press("escape")
        person.until(lambda: person.state.summary_since is not None)
        person.press("escape")
        assert not person.state.going
    with at_the_window(run) as person:
        person.ready()
        person.press("escape")  # no vote, no summary
        assert not person.state.going
    with at_the_window(run) as person:
        person.ready()
        person.vote("left")
        person.press("escape")
        person.press("escape")  # in a hurry
        assert not person.state.going
    monkeypatch.setattr(controller_module, "SUMMARY_SECONDS", 0.2)
    with at_the_window(run) as person:
        person.ready()
        person.vote("left")
        person.press("escape")
        person.until(lambda: not person.state.going)


def test_closing_the_window_gives_the_question_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    with at_the_window(run) as person:
        person.ready()
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        person.controller.step()
        assert not person.state.going
    assert person.clips.closed
    assert FeedbackStore(run / "labels.sqlite").claim("you", 60) is not None
    with sqlite3.connect(run / "labels.sqlite") as db:
        assert db.execute("SELECT count(*) FROM leases WHERE annotator = 'me'").fetchone() == (0,)
    db.close()


def test_help_and_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    monkeypatch.setattr(controller_module, "chime", lambda: rung.append(1))
    with at_the_window(make_run(tmp_path)) as person:
        person.ready()
        person.press("/", shift=True, text="?")
        assert person.state.help
        person.press("left")  # only closes the help
        assert not person.state.help and person.votes() == []
        person.press("h")
        person.mouse(pygame.MOUSEBUTTONDOWN, 640, 300)
        assert not person.state.help
        person.press("m")
        assert person.state.sound and rung == [1]


# -- nothing lost


LABEL = """
import os, sys
sys.path.insert(0, {tests!r})
from tests.voting import at_the_window
from pathlib import Path
from rlhf_control.viewer.vote import ballot
from rlhf_control.viewer.kit.canvas import pygame
ballot.LEAST_SECONDS = 0.0
with at_the_window(Path(sys.argv[1])) as person:
    keys = ["left", "right", "up", "down", "backspace", "a", "d", "left", "right"]
    told, i = 0, 0
    while person.controller.step():
        if person.state.answerable():
            key = pygame.key.key_code(keys[i % len(keys)])
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, mod=0, unicode=""))
            i += 1
        session = person.state.session
        if session is not None and not person.controller.worker.doing("vote", "undo"):
            for _ in range(told, len(session.done) + 2 * session.undone):  # answers and undos whose result was seen
                os.write(1, b".")
            told = max(told, len(session.done) + 2 * session.undone)
        person.window.tick()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [(COMPARISON, 2), (SUCCESS, 1)])
def test_kill_9_while_voting_loses_nothing(tmp_path: Path, kind: str, size: int) -> None:
    """The process with the window is killed at random moments, as often as RLHF_CONTROL_KILLS says; what it had shown
    as saved is there, the store is whole, and the question it had comes back."""
    kills = int(os.environ.get("RLHF_CONTROL_KILLS", "3"))
    run = make_run(tmp_path, 20 * kills + 40, kind, size)
    rng = np.random.default_rng(0)
    promised = 0
    code = LABEL.format(tests=str(Path(__file__).parents[3]))
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.read(1)  # it votes
        promised += 1
        time.sleep(rng.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        promised += len(process.stdout.read())
        process.stdout.close()
        store = FeedbackStore(run / "labels.sqlite", create=False)
        assert len(store.votes()) >= promised
    for asked in store.asked():
        store.segments(asked.clips)
    with sqlite3.connect(run / "labels.sqlite") as db:
        held = {key for (key,) in db.execute("SELECT query FROM leases WHERE annotator = 'me'")}
    db.close()
    again = store.claim("me", 60)
    assert again is not None and (again[0] in held or not held)
    assert promised > kills  # of one at least it was more than the vote that was waited for
