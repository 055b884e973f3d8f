"""What keys and the mouse mean, in the light of what the window knows: nothing is changed by asking."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_control.data import RANKING
from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.kit.window import Key, Mouse
from rlhf_control.viewer.vote.events import CLOSE, CLOSE_HELP, RETURN, Drop, Events, Seek
from rlhf_control.viewer.vote.parts import Drag, track_place
from tests.voting import Person, at_the_window, make_run


@pytest.fixture
def ranking(tmp_path: Path) -> Iterator[tuple[Person, Events]]:
    """A person before three clips to rank."""
    with at_the_window(make_run(tmp_path, 1, RANKING, 3)) as person:
        person.ready()
        yield person, person.controller.events


def test_a_key_means_what_the_situation_makes_of_it(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    state, space, one = person.state, Key("space", " "), Key("1", "1")
    assert events.meaning(one) == "place 0" and events.meaning(space) == "pause"
    assert events.meaning(Key("x", "x")) == ""
    state.help = True
    assert events.meaning(one) == CLOSE_HELP and events.meaning(Mouse("move", 5, 5)) is None
    state.away = True  # before all else
    assert events.meaning(one) == RETURN and events.meaning(Mouse("down", 5, 5, 1)) == RETURN
    assert events.meaning(Mouse("move", 5, 5)) is None
    state.help = state.away = False
    state.summary_since = 1.0
    assert [events.meaning(key) for key in (space, one, Key("backspace"))] == ["leave", "", "stay"]
    state.summary_since = None
    assert events.meaning(Key("r", "r")) == "restart"
    state.ballot, state.trouble = None, "the disk is gone"
    assert events.meaning(Key("r", "r")) == "retry" and events.meaning(one) == ""
    assert not person.votes()


def test_a_click_is_no_drag(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    x, y = person.place("place 1")
    assert events.meaning(Mouse("down", x, y, 1)) is None  # not yet
    assert events.meaning(Mouse("move", x + 2, y)) is None  # a hand is not that still
    assert events.meaning(Mouse("up", x + 2, y, 1)) == "place 1"
    assert events.meaning(Mouse("up", x + 2, y, 1)) is None
    assert events.meaning(Mouse("down", x, y, 3)) is None  # another button
    x, y = person.place("cannot tell")
    assert events.meaning(Mouse("down", x, y, 1)) == "cannot tell"


def test_a_drag_and_where_it_ends(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    ballot, (x, y) = person.state.ballot, person.place("place 1")
    assert ballot is not None
    events.meaning(Mouse("down", x, y, 1))
    drag = events.meaning(Mouse("move", x + 50, y))
    assert drag == Drag(1, x + 50, y) and ballot.drag is None  # who changes the state is the controller
    person.controller.act(drag)
    assert ballot.drag == drag
    drop = events.meaning(Mouse("up", x + 50, y, 1))
    assert drop == Drop(1, None, placed=False)
    person.controller.act(drop)
    assert ballot.drag is None and ballot.order == ()


def test_what_the_button_went_down_on_is_gone_with_its_question(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    x, y = person.place("place 1")
    events.meaning(Mouse("down", x, y, 1))
    person.state.ballot = None
    assert events.meaning(Mouse("up", x, y, 1)) is None


def test_the_time_line(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    left, top, width, height = track_place(person.window, RANKING, 3)
    y = top + height / 2
    assert events.meaning(Mouse("down", left + width / 4, y, 1)) == Seek(0.25)
    assert events.meaning(Mouse("move", left + width / 2, y + 300)) == Seek(0.5)  # beside it too, once it is held
    events.meaning(Mouse("up", left, y, 1))
    assert events.meaning(Mouse("move", left + width / 2, y)) is None


def test_a_key_that_is_held_repeats_after_a_while(ranking: tuple[Person, Events]) -> None:
    person, events = ranking
    person.state.now = 100.0
    person.window.held = {"."}
    assert events.meaning(Key(".", ".")) == "forward"
    repeated = []
    for now in (100.1, 100.4, 100.47, 100.5, 100.54):
        person.state.now = now
        repeated.append(list(events.repeated()))
    assert repeated == [[], [], ["forward"], [], ["forward"]]


def test_all_that_happened_comes_in_order(ranking: tuple[Person, Events]) -> None:
    _person, events = ranking
    pygame.event.clear()
    for code, text in ((pygame.K_2, "2"), (pygame.K_1, "1")):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code, mod=0, unicode=text))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert list(events.actions()) == ["place 1", "place 0", CLOSE]
