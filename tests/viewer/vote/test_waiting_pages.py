import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.feedback.schema import Tally
from rlhf_control.labelling.run_state import News
from rlhf_control.labelling.session import ALL_DONE, ELSEWHERE, EMPTY, OTHERS, SITUATIONS
from rlhf_control.labelling.summary import Fact
from rlhf_control.runs.status import Status
from rlhf_control.training.people import NOTHING_LEARNED
from rlhf_control.viewer.vote.keys import COMPARISON, RANKING, RATING, help_lines
from rlhf_control.viewer.vote.parts import Bar
from rlhf_control.viewer.vote.waiting_pages import (
    LIVE,
    WaitingPage,
    away_page,
    draw_help,
    draw_page,
    even_width,
    opening_page,
    page_of,
    sentence,
    summary_page,
    trouble_page,
)
from tests.pages_kit import SIZES, a_canvas, check_places, check_words, colors, watch_words

RUN = Path("runs/quickstart-human-0")
FACTS = (
    Fact("votes", "48", "3 tied, 2 cannot tell, 1 undone"), Fact("seconds a vote", "2.9", "half between 2.1 and 4.4"),
    Fact("same answer when asked again", "4 of 5", "80%; 95 % interval 38% to 96%"),
    Fact("left clip preferred", "52% of 41", "no sign of a habit"),
    Fact("agreement with others", "kappa 0.71", "40 judged by 2 annotators"),
)  # fmt: skip


def news(situation: str) -> News:
    """Of a run in this situation."""
    tallies = {ELSEWHERE: Tally(8, 9, 8, 2), OTHERS: Tally(8, 9, 8, 0), EMPTY: Tally(0, 0, 0, 0)}
    tally = tallies.get(situation, Tally(9, 9, 9, 0))
    if situation in (EMPTY, ALL_DONE):
        return News(None, False, tally)
    states = dict.fromkeys(("elsewhere", "others"), "waiting") | dict.fromkeys(
        ("lost", "waiting", "answered"), "training"
    )
    state, more = states.get(situation, situation), situation != "answered"
    message = "obs is not finite in environment 3."
    status = Status(state, os.getpid(), time.time(), "Hopper-v5", message=message, more=more)  # type: ignore[arg-type]
    return News(status, situation in ("starting", "waiting", "answered", "elsewhere", "others"), tally)


def every_page() -> list[WaitingPage]:
    pages = [page_of(news(s), RUN, time.time(), undo=True, sound=True, facts=FACTS) for s in SITUATIONS]
    held = replace(news("waiting"), status=Status("training", os.getpid(), time.time(), "Hopper-v5", holding=True))
    over = replace(news("finished"), status=Status("finished", 1, 0.0, "Hopper-v5", message=NOTHING_LEARNED))
    pages += [page_of(n, RUN, time.time(), undo=True, sound=True, facts=FACTS) for n in (held, over)]
    return [
        *pages, opening_page(RUN, False), opening_page(RUN, True), away_page(), summary_page(FACTS, RUN),
        summary_page(FACTS, RUN, over=True),
        trouble_page("runs/x/labels.sqlite: file is not a database; check the disk"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_situation_says_what_to_do(name: str) -> None:
    page = page_of(news(name), RUN, time.time(), undo=False, sound=False, facts=FACTS)
    assert page.name == name and page.title and page.text.endswith((".", ":"))
    # Either it goes on by itself, or there is something to type; by others it goes on when they have typed it.
    assert (page.name in LIVE) != bool(page.command) or page.name == OTHERS
    assert bool(page.facts) == (name in ("finished", "stopped", "failed", "all done"))
    assert "leave" in [button.action for button in page.buttons]
    assert ("sound" in [button.action for button in page.buttons]) == (name in LIVE and name != "answered")
    assert "undo" in [b.action for b in page_of(news(name), RUN, 0.0, undo=True, sound=False).buttons]


def test_the_time_to_the_next_question() -> None:
    status = Status("training", os.getpid(), time.time(), "Hopper-v5", next_question=1020.0)
    page = page_of(News(status, True, Tally(9, 9, 9, 0)), RUN, 1000.0, undo=False, sound=False)
    assert page.title == "Next question in about 20 s"


@pytest.mark.parametrize("more", [True, False])
def test_a_hold_is_told_and_what_helps(more: bool) -> None:
    status = Status("training", os.getpid(), time.time(), "Hopper-v5", holding=True, more=more)
    page = page_of(News(status, True, Tally(9, 9, 9, 0)), RUN, time.time(), undo=False, sound=False)
    assert "stays as it is" in page.text and "What helps" in page.text and "trains on your answers" not in page.text
    assert ("more of them" in page.text) == more and ("another run" in page.text) != more
    assert page.command == ("" if more else "rlhf-control finetune POLICY --oracle human --labels 18")


def test_a_run_that_learned_nothing_says_so_at_its_end() -> None:
    status = Status("finished", os.getpid(), time.time(), "Hopper-v5", message=NOTHING_LEARNED)
    page = page_of(News(status, False, Tally(9, 9, 9, 0)), RUN, time.time(), undo=False, sound=False)
    assert page.text.startswith("Nothing was learned")


def test_nobody_is_asked_to_vote_on_where_nothing_more_is_asked() -> None:
    assert summary_page(FACTS, RUN).command == f"rlhf-control label {RUN}"
    over = summary_page(FACTS, RUN, over=True)
    assert over.command == f"rlhf-control watch {RUN}" and not any("vot" in b.label for b in over.buttons)
    answered = page_of(news("answered"), RUN, time.time(), undo=True, sound=True)
    assert "question" not in answered.text and [b.action for b in answered.buttons] == ["undo", "leave"]


def test_sentences() -> None:
    assert sentence("obs is NaN") == "Obs is NaN. " and sentence("Stopped.") == "Stopped. " and sentence("") == ""
    assert sentence("runs/x: cannot be read") == "runs/x: cannot be read. "  # a path keeps its letters


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_their_window(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No text leaves the page, runs into another one, or is cut."""
    for page in every_page():
        with a_canvas(size) as canvas:
            places, cut = watch_words(canvas, monkeypatch)
            draw_page(canvas, page, Bar(48, 100, "19 votes a minute", "the run waits", "good"), 3)
            check_places(canvas)
            check_words(canvas, places)
            assert cut == [], page.name


def test_a_long_command_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path("/home/somebody/a project with a long name/experiments/preferences/of people") / ("run " * 30).strip()
    for size in SIZES:
        with a_canvas(size) as canvas:
            places, cut = watch_words(canvas, monkeypatch)
            draw_page(canvas, summary_page((), run), Bar(), 0)
            check_words(canvas, places)
            assert cut == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", [COMPARISON, RANKING, RATING])
def test_the_help_fits_its_window(size: tuple[int, int], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_canvas(size) as canvas:
        canvas.button((0, 0, 10, 10), "", "hidden")
        places, cut = watch_words(canvas, monkeypatch)
        draw_help(canvas, help_lines(how, correctable=True))
        assert colors(canvas) > 10
        assert canvas.hit(size[0] / 2, size[1] / 2) == "close help" == canvas.hit(5, 5)
        check_words(canvas, places)
        assert cut == []


def test_lines_of_even_length() -> None:
    with a_canvas() as canvas:
        assert even_width(canvas, "short", 17, 700) == 700
        width = even_width(canvas, "word " * 30, 17, 700)
        assert 400 < width < 700
