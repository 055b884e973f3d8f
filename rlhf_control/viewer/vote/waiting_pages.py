"""The pages without a question: what is going on, and what to do; the help over everything; the summary at the end."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_control.labelling.run_state import News, goal, situation
from rlhf_control.labelling.session import (
    ALL_DONE,
    ANSWERED,
    ELSEWHERE,
    EMPTY,
    FAILED,
    FINISHED,
    HELD,
    HELD_TO_THE_END,
    LOST,
    OTHERS,
    STARTING,
    STOPPED,
    WAITING,
)
from rlhf_control.labelling.summary import Fact
from rlhf_control.runs.run import command_for
from rlhf_control.viewer.kit.canvas import (
    BACKGROUND,
    BAD,
    GOOD,
    LINE,
    MUTED,
    PANEL,
    RAISED,
    SIDE_B,
    TEXT,
    Canvas,
    Color,
)
from rlhf_control.viewer.vote.parts import Bar, draw_bar
from rlhf_control.wording import counted, duration

OPENING, AWAY, TROUBLE, SUMMARY = "opening", "away", "trouble", "summary"
LIVE = (OPENING, STARTING, WAITING, ANSWERED, ELSEWHERE, OTHERS)  # something goes on: the dots move


@dataclass(frozen=True)
class PageButton:
    label: str
    action: str
    hint: str


@dataclass(frozen=True)
class WaitingPage:
    """Holds a page in words."""

    name: str
    title: str
    text: str
    command: str = ""  # to type in a terminal
    facts: tuple[Fact, ...] = ()
    buttons: tuple[PageButton, ...] = ()


UNDO = PageButton("Undo the last answer", "undo", "⌫")
LEAVE = PageButton("Leave", "leave", "Esc")


def page_of(news: News, run: Path, now: float, *, undo: bool, sound: bool, facts: tuple[Fact, ...] = ()) -> WaitingPage:
    """Returns the page for a session without a question."""
    name, tally, status = situation(news), news.tally, news.status
    message = status.message if status is not None else ""
    title, text, command = _words(name, run, message, tally.elsewhere, tally.answers)
    wanted = goal(tally, status)
    if name in (WAITING, ANSWERED) and status is not None and status.holding:
        text = HELD if status.more else HELD_TO_THE_END
        command = command if status.more else f"rlhf-control finetune POLICY --oracle human --labels {2 * wanted}"
    if name == WAITING and status is not None and status.next_question is not None and status.next_question > now:
        title = f"Next question in about {duration(status.next_question - now)}"
    buttons = (UNDO,) * undo
    if name in LIVE and name != ANSWERED:
        buttons += (PageButton(f"Sound {'on' if sound else 'off'}", "sound", "M"),)
    facts = facts if name in (FINISHED, ALL_DONE, STOPPED, FAILED) else ()
    return WaitingPage(name, title, text, command, facts, (*buttons, LEAVE))


AWAITED = {  # title and text where there is nothing to do but to wait
    STARTING: (
        "The run is starting",
        "It tries the policy out first. Its first questions appear here by themselves.",
    ),
    WAITING: (
        "No question at the moment",
        "The policy trains on your answers. The next question appears here by itself; leave the window open.",
    ),
    ANSWERED: (
        "Everything is answered. Thank you.",
        "The policy trains on your answers to the end of the run, which asks nothing more. You may leave.",
    ),
}


def _words(name: str, run: Path, message: str, elsewhere: int, answers: int) -> tuple[str, str, str]:
    """Title, text and command of a situation."""
    if name in AWAITED:
        return *AWAITED[name], ""
    typed = {OTHERS: ("label", "--annotator", "NAME"), FINISHED: ("watch",)}.get(name, ("resume",))
    command = command_for(run, *typed, behaviours=typed == ("resume",))
    one, given = elsewhere == 1, counted(answers, "answer")
    return {
        EMPTY: (
            "No questions yet",
            "Nobody has asked anything in this run's folder. Start a run that asks people; its questions appear here.",
            "rlhf-control finetune POLICY --oracle human --labels 100",
        ),
        ELSEWHERE: (
            "Others are answering the rest",
            f"{counted(elsewhere, 'question is', 'questions are')} before other annotators. "
            f"If they leave {'it' if one else 'one'}, it comes here by itself.",
            "",
        ),
        OTHERS: (
            "You have answered everything",
            "Other people are to give the same answers. Whoever does so votes under a name of their own:",
            command,
        ),
        FINISHED: (
            "The run has finished. Thank you.",
            f"{sentence(message)}Saved with it: {given}. To look into the run:",
            command,
        ),
        STOPPED: (
            "The run was stopped",
            f"{sentence(message)}Every vote is saved. Go on with it, and this window goes on too:",
            command,
        ),
        FAILED: (
            "The run failed",
            f"{sentence(message)}Every vote is saved. When the cause is mended, go on with it:",
            command,
        ),
        LOST: (
            "The run is gone",
            "Its process ended without a word. Every vote is saved. Go on with it, and this window goes on too:",
            command,
        ),
        ALL_DONE: (
            "Everything is answered",
            f"The run has {given}, and nobody asks for more. What is known about them:",
            shlex.join(["rlhf-control", "labels", str(run)]),
        ),
    }[name]


def sentence(message: str) -> str:
    """Returns it with a capital, unless it begins with a path."""
    message = message.strip().rstrip(".")
    start = message[:1] if "/" in message.partition(" ")[0] else message[:1].upper()
    return f"{start}{message[1:]}. " if message else ""


def opening_page(run: Path, starting: bool) -> WaitingPage:
    text = "It tries the policy out first. Its first questions appear here by themselves." if starting else str(run)
    return WaitingPage(OPENING, "The run is starting" if starting else "Opening the run", text, buttons=(LEAVE,))


def away_page() -> WaitingPage:
    return WaitingPage(
        AWAY, "Still there?",
        "Your question waits a minute for you; then others may answer it. Press any key or click to go on.",
    )  # fmt: skip


def trouble_page(problem: str) -> WaitingPage:
    return WaitingPage(
        TROUBLE, "The votes cannot be reached", f"{sentence(problem)}Nothing is voted until they can.",
        buttons=(PageButton("Try again", "retry", "R"), LEAVE),
    )  # fmt: skip


def summary_page(facts: Sequence[Fact], run: Path, over: bool = False) -> WaitingPage:
    """Returns the page with the summary. `over`: the run asks nothing more."""
    closing = "This window closes by itself in a moment."
    text, command = ("To look into the run:", "watch") if over else ("To vote on, any time:", "label")
    buttons = (PageButton("Back" if over else "Go on voting", "stay", "⌫"), PageButton("Close", "leave", "Esc"))
    title = "Thank you. Everything is saved."
    return WaitingPage(
        SUMMARY, title, f"{closing} {text}", command_for(run, command, behaviours=False), tuple(facts), buttons
    )


# -- drawing


def draw_page(window: Canvas, page: WaitingPage, bar: Bar, spin: int) -> None:
    px, (width, height) = window.px, window.size
    draw_bar(window, bar)
    middle, room = width / 2, min(width - 2 * px(40), px(760))
    table = sum(fact_heights(window, page.facts)) + (px(24) if page.facts else 0)
    y = max(px(60), (height - px(300) - table) / 2)
    draw_mark(window, page.name, (middle, y + px(10)), spin)
    y += px(44)
    *_, tall = window.paragraph(page.title, (middle, y), room, 28, bold=True, align="center")
    y += tall + px(16)
    *_, tall = window.paragraph(
        page.text, (middle, y), even_width(window, page.text, 17, room), 17, MUTED, align="center"
    )
    y += tall + px(18)
    if page.command:
        most = width - 2 * px(24) - px(48)
        wide, lines = window.measure_paragraph(page.command, most, 16)
        tall = max(px(44), lines + px(12))
        window.box((middle - wide / 2 - px(24), y, wide + px(48), tall), PANEL, radius=8, border=LINE)
        window.paragraph(page.command, (middle, y + tall / 2), most, 16, TEXT, align="center", middle=True)
        y += tall + px(20)
    if page.facts:
        y = draw_facts(window, page.facts, y) + px(24)
    draw_buttons(window, page.buttons, min(max(y + px(8), height * 0.5), height - px(12) - button_height(window)))


def even_width(window: Canvas, text: str, size: float, room: float) -> float:
    """Returns a width at which the lines of a text are about as long as each other, and no more than at `room`."""
    whole = window.measure(text, size)[0]
    lines = -(-whole // room)
    return min(room, whole / lines * 1.06 + window.px(40)) if lines > 1 else room


def fact_columns(window: Canvas, facts: Sequence[Fact]) -> tuple[float, float, float]:
    """Returns the widths of name, value and note: each as wide as its words, but the note no wider than what is
    left."""
    px = window.px
    name = max(window.measure(fact.name, 15)[0] for fact in facts) + px(24)
    value = max(window.measure(fact.value, 15, bold=True)[0] for fact in facts) + px(24)
    note = max(window.measure(fact.note, 14)[0] for fact in facts)
    return name, value, max(px(60), min(note, window.size[0] - 2 * px(40) - 2 * px(20) - name - value))


def fact_heights(window: Canvas, facts: Sequence[Fact]) -> list[float]:
    """Returns the height of each row: a long note takes several lines."""
    note = fact_columns(window, facts)[2] if facts else 0.0
    return [max(window.px(34), window.measure_paragraph(fact.note, note, 14)[1] + window.px(6)) for fact in facts]


def draw_facts(window: Canvas, facts: Sequence[Fact], top: float) -> float:
    """Draws the summary as a table; returns its lower edge."""
    px, (name, value, note) = window.px, fact_columns(window, facts)
    room, heights = name + value + note + 2 * px(20), fact_heights(window, facts)
    left, y = (window.size[0] - room) / 2, top + px(8)
    window.box((left, top, room, sum(heights) + px(16)), PANEL, radius=10)
    for fact, height in zip(facts, heights, strict=True):
        middle, x = y + height / 2, left + px(20)
        window.text(fact.name, (x, middle), 15, MUTED, middle=True)
        window.text(fact.value, (x + name, middle), 15, TEXT, bold=True, middle=True)
        window.paragraph(fact.note, (x + name + value, middle), note + 1, 14, MUTED, middle=True)
        y += height
    return y + px(8)


def button_height(window: Canvas) -> int:
    return max(window.px(44), window.measure("Q", 15)[1] + window.px(10))


def draw_buttons(window: Canvas, buttons: Sequence[PageButton], top: float) -> None:
    """Draws the buttons in a row in the middle."""
    px, gap = window.px, window.px(12)
    widths = [window.measure(b.label, 15)[0] + window.measure(b.hint, 13)[0] + px(52) for b in buttons]
    x = (window.size[0] - sum(widths) - gap * (len(buttons) - 1)) / 2
    for button, room in zip(buttons, widths, strict=True):
        place = (x, top, room, button_height(window))
        window.button(place, button.label, button.action, hint=button.hint, size=15)
        x += room + gap


def draw_mark(window: Canvas, name: str, at: tuple[float, float], spin: int) -> None:
    """Draws three dots that move while something goes on; else one, in the colour of the news."""
    px, (x, y) = window.px, at
    if name in LIVE:
        for k in range(3):
            window.disc((x + px(22) * (k - 1), y), 5, TEXT if (spin // 2 - k) % 6 < 2 else LINE)
        return
    color: Color = {FAILED: BAD, LOST: BAD, TROUBLE: BAD, STOPPED: SIDE_B, AWAY: SIDE_B}.get(name, GOOD)
    window.disc((x, y), 9, color)


MOUSE = "Everything can be clicked on as well: a clip to prefer it, the time line to seek."


def draw_help(window: Canvas, lines: Sequence[tuple[str, str]], mouse: str = MOUSE) -> None:
    """Draws the keys, over the page; a click anywhere closes it."""
    px, (width, height) = window.px, window.size
    window.shade(0.6, color=BACKGROUND)
    edge, line = px(32), window.measure("Q", 15)[1]
    names = max(window.measure(keys, 15, bold=True)[0] for keys, _ in lines) + px(28)
    widest = max(names + max(window.measure(words, 15)[0] for _, words in lines), window.measure(mouse, 13)[0])
    room = min(max(px(680), widest + 2 * edge), width - px(8))
    head, foot = max(px(72), line + px(24)), max(px(56), line + px(12))
    row = min(max(px(36), line + px(4)), (height - px(8) - head - foot) / len(lines))
    tall = head + row * len(lines) + foot
    left, top = (width - room) / 2, (height - tall) / 2
    window.box((left, top, room, tall), RAISED, radius=14, border=LINE)
    window.text("Keys", (left + edge, top + head / 2), 22, bold=True, middle=True)
    window.text("any key closes this", (left + room - edge, top + head / 2), 13, MUTED, align="right", middle=True)
    for i, (keys, meaning) in enumerate(lines):
        y = top + head + row * (i + 0.5)
        window.text(keys, (left + edge, y), 15, TEXT, bold=True, middle=True)
        window.text(meaning, (left + edge + names, y), 15, TEXT, middle=True, width=room - 2 * edge - names + px(16))
    window.text(mouse, (width / 2, top + tall - foot / 2), 13, MUTED, align="center", middle=True, width=room - edge)
    window.region((0, 0, width, height), "close help")
