"""Voting without a window: each question's clips go side by side into a video file, or are text; its answer is one key.

The session is the window's (`session`); so are the keys, as far as a terminal has them.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rlhf_control.config.commands import LabelConfig
from rlhf_control.data import GROUPS, SUCCESS
from rlhf_control.errors import Stopped, UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling.keyboard import BACKSPACE, DOWN, ENTER, ESCAPE, LEFT, RIGHT, UP, Keyboard
from rlhf_control.labelling.predictions import Predictions
from rlhf_control.labelling.question_video import VideoStudio
from rlhf_control.labelling.run_state import News, goal, read_news, run_line, situation
from rlhf_control.labelling.session import (
    ALL_DONE,
    ANSWERED,
    ELSEWHERE,
    EMPTY,
    FAILED,
    FINISHED,
    HELD,
    HELD_TO_THE_END,
    LEAST_SECONDS,
    LOST,
    OTHERS,
    RENEW_SECONDS,
    STARTING,
    STOPPED,
    TIE,
    WAITING,
    Answer,
    Question,
    Session,
)
from rlhf_control.labelling.session import LEFT as LEFT_BETTER
from rlhf_control.labelling.session import RIGHT as RIGHT_BETTER
from rlhf_control.labelling.summary import summary, summary_text
from rlhf_control.runs.run import command_for
from rlhf_control.runs.status import alive, read_status
from rlhf_control.wording import counted, question_of

WAIT_SECONDS = 1.0  # between two looks for a question

UNDO, LEAVE, REPEAT = "undo", "leave", "repeat"
COMMANDS = {"u": UNDO, BACKSPACE: UNDO, "q": LEAVE, ESCAPE: LEAVE, "": REPEAT, ENTER: REPEAT}
CANNOT = ("s", DOWN)
COMPARING = {
    "a": LEFT_BETTER, LEFT: LEFT_BETTER, "d": RIGHT_BETTER, RIGHT: RIGHT_BETTER, "w": TIE, UP: TIE,
}  # fmt: skip
MARKING = {"y": 1.0, "d": 1.0, RIGHT: 1.0, "n": 0.0, "a": 0.0, LEFT: 0.0}
WORDS = {LEFT_BETTER: "left is better", RIGHT_BETTER: "right is better", TIE: "both are equally good"}
OVER = {  # situations in which no question will come, and what is to be said
    FINISHED: "the run has finished{message}: no more questions",
    STOPPED: "the run is stopped; go on with it by `{resume}`, then label again",
    FAILED: "the run failed{message}; your votes are kept",
    LOST: "the run is gone without a word; go on with it by `{resume}`, then label again",
    ALL_DONE: "every question is answered, and no run is there to ask more",
    EMPTY: "nothing was asked yet, and no run is there to ask; start one, or go on by `{resume}`",
}
AWAITED = {
    STARTING: "",
    WAITING: "",
    ANSWERED: "everything is answered; the run trains on your answers to its end, and asks nothing more",
    ELSEWHERE: "other annotators have the open questions before them; waiting",
    OTHERS: "you have answered everything; other people are to answer too, each with --annotator NAME; waiting",
}


def label_in_terminal(config: LabelConfig) -> int:
    """Asks question after question until the run has no more or the person leaves; the exit code. Whatever ends it,
    the question that is not answered is given back."""
    run = Path(config.run)
    with ExitStack() as stack:
        stack.enter_context(terminating())
        keyboard = stack.enter_context(Keyboard())
        store = open_store(run, keyboard)
        if store is None:
            return 0
        session = Session(store, config.annotator, seed=config.seed)
        stack.callback(lambda: suppressed(session.close))
        studio = stack.enter_context(VideoStudio(run, session, config.speed, config.env_id))
        voting = Voting(config, session, studio, keyboard)
        try:
            voting.vote_on()
            return 0
        except KeyboardInterrupt:
            return 130
        finally:
            say("\n" * keyboard.single + summary_text(summary(session)))


@contextmanager
def terminating() -> Iterator[None]:
    """Makes SIGTERM, and SIGHUP when the terminal is closed, within, raise Stopped, so that what is claimed is given
    back."""

    def stop(signum: int, frame: object) -> None:
        raise Stopped(signum, "the question before you was given back; every vote is kept")

    if threading.current_thread() is not threading.main_thread():  # where signals are somebody else's business
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_store(run: Path, keyboard: Keyboard) -> FeedbackStore | None:
    """Returns the run's store, once it is there; None if the person leaves while the run starts."""
    if not run.is_dir():
        raise UserError(f"{run} does not exist; name a run's folder, or start one with rlhf-control finetune")
    told = False
    path = run / "labels.sqlite"
    while not (path.is_file() and path.stat().st_size):  # it is made empty, and filled at once
        status = read_status(run)
        if status is None or not alive(status):
            if path.is_file():
                break
            raise UserError(
                f"{run} has no labels.sqlite, and no run is at work there; start it, or name another folder"
            )
        if not told:
            say("the run is starting; the first question comes soon (q leaves)")
            told = True
        if COMMANDS.get(keyboard.read(WAIT_SECONDS) or " ") == LEAVE:
            return None
    return FeedbackStore(run / "labels.sqlite", create=False)


def say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(text, flush=True)


def suppressed(work: Callable[[], None]) -> None:
    """Does the work, but for what the disk may refuse: a lease ends by itself."""
    with suppress(UserError):
        work()


# -- one question after the other


class Voting:
    """Leads the conversation."""

    def __init__(self, config: LabelConfig, session: Session, studio: VideoStudio, keyboard: Keyboard) -> None:
        self.config, self.session, self.studio, self.keyboard = config, session, studio, keyboard
        self.run = Path(config.run)
        self.predictions = Predictions(self.run)
        self.waited, self.noticed = "", ""  # what was last said while waiting, and of the drawings
        self.told_of_hold = False

    def vote_on(self) -> None:
        """Asks until there are no more questions or the person leaves."""
        while True:
            question = self.session.next()
            left = self.await_question() if question is None else self.put(question)
            if left:
                return

    def await_question(self) -> bool:
        """Says what the run is at, and waits a little; returns whether that is all."""
        news = read_news(self.run, self.session.store, self.session.annotator)
        where = situation(news)
        if where in OVER:
            message = news.status.message if news.status is not None else ""
            self.end_waiting()
            resume = command_for(self.run, "resume")
            say(OVER[where].format(resume=resume, message=f" ({message})" * bool(message)))
            return True
        self.tell_waiting(where, news)
        command = COMMANDS.get(self.keyboard.read(WAIT_SECONDS) or " ")
        if command == UNDO:
            self.end_waiting()
            self.undo()
        return command == LEAVE or self.keyboard.ended

    def put(self, question: Question) -> bool:
        """Asks one question until it is answered; returns whether the person leaves."""
        if self.waited and self.config.sound:
            print("\a", end="")
        self.end_waiting()
        self.show(question)
        started = time.monotonic()
        if self.keyboard.forget(LEAST_SECONDS):
            say("  (not counted: what was typed before this question was there, or in the very moment)")
        while True:
            answer = self.answer(question)
            if answer is None:  # nothing for a while
                if not self.session.renew():
                    say("somebody else has this question by now")
                    return False
            elif answer == LEAVE:
                return True
            elif answer == UNDO:
                if self.undo():
                    return False
            elif answer == REPEAT:
                self.show(question)
            elif isinstance(answer, Answer):
                return self.commit(question, answer, time.monotonic() - started)

    def commit(self, question: Question, answer: "Answer", seconds: float) -> bool:
        """Puts the answer on the disk; the question stays if that fails. False: the person stays as well."""
        try:
            self.session.vote(answer.seen, answer.value, seconds)
        except UserError as error:
            say(f"this vote could not be written: {error}")
            return self.keyboard.ended
        say(answer.words)
        expected = self.predictions.expected(question) if self.config.show_prediction else None
        if expected is not None:
            say(f"the reward model expected {('left', 'right')[expected[0]]} ({expected[1]:.0%})")
        self.studio.forget(question)
        return False

    def undo(self) -> bool:
        """Takes the last answer back; returns whether there was one."""
        if not self.session.done:
            say("there is no answer of this session to take back")
            return False
        self.session.undo()
        say("taken back")
        return True

    def answer(self, question: Question) -> "Answer | str | None":
        """Returns what the person says to a question: an answer, a command, or None for nothing in a while."""
        both = 2 if question.kind == GROUPS else len(question.shown)  # groups are answered as two clips are
        whole = both > 2 and self.keyboard.single
        typed = self.read_ranking(both) if whole else self.keyboard.read(RENEW_SECONDS)
        if typed is None:
            return LEAVE if self.keyboard.ended else None
        meant = meaning(typed, both, self.config.levels, question.kind)
        if meant is None:
            say(f"'{typed}' means nothing here: {keys(both, self.config.levels, question.kind)}")
            return ""
        if question.kind == GROUPS and isinstance(meant, Answer) and meant.seen in (LEFT_BETTER, RIGHT_BETTER, TIE):
            return replace(meant, seen=question.of_both((meant.seen[0], meant.seen[1])))
        return meant

    def read_ranking(self, clips: int) -> str | None:
        """Returns what is typed of a ranking on a terminal, as a whole, or a command; None for nothing in a while."""
        typed = ""
        while sum(c.isdigit() for c in typed) < clips:
            key = self.keyboard.read(RENEW_SECONDS)
            if key is None:
                if self.keyboard.ended or not typed:
                    return None
                self.session.renew()
            elif key == BACKSPACE and typed:
                typed = typed[:-1]
            elif key.isdigit() or key == "=":
                typed += key
            elif not typed or COMMANDS.get(key) == LEAVE:
                print("\r\x1b[K", end="")
                return key
            print(f"\r\x1b[K{typed}", end="", flush=True)
        print()
        return typed

    def show(self, question: Question) -> None:
        """Prints the question in words, where its video is, and the keys."""
        news = read_news(self.run, self.session.store, self.session.annotator)
        clips = len(question.shown)
        words = question_of(clips, news.status.question if news.status is not None else "", question.kind)
        given = f"{news.tally.answers} of {counted(goal(news.tally, news.status), 'answer')} so far"
        say(f"\n{words} ({given})")
        try:
            say(self.studio.words(question) or f"  {self.studio.video(question)}")
        except UserError as error:
            say(f"  its clips cannot be shown ({error}); s goes on without an answer")
        if self.studio.notice and self.studio.notice != self.noticed:
            self.noticed = self.studio.notice
            say(f"  {self.noticed}")
        say(f"  {keys(2 if question.kind == GROUPS else clips, self.config.levels, question.kind)}")

    def tell_waiting(self, where: str, news: News) -> None:
        """Prints on a terminal one line that counts down; elsewhere a line whenever the situation changes."""
        if news.status is not None and news.status.holding and not self.told_of_hold:
            self.told_of_hold = True
            self.end_waiting()
            say(HELD if news.status.more else HELD_TO_THE_END)
        words = AWAITED[where] or run_line(news, time.time())[0]
        if self.keyboard.single:
            print(f"\r\x1b[K{words} (q leaves, u takes the last answer back)", end="", flush=True)
        elif where != self.waited:
            say(words)
        self.waited = where

    def end_waiting(self) -> None:
        if self.waited and self.keyboard.single:
            print("\r\x1b[K", end="")
        self.waited = ""


# -- answers


def meaning(typed: str, clips: int, levels: int, kind: str = "") -> Answer | str | None:
    """Reads an answer to a question about so many clips, a command, or None."""
    if typed in COMMANDS:
        return COMMANDS[typed]
    if typed in CANNOT:
        return Answer(None, None, "cannot tell")
    if kind == SUCCESS:
        mark = MARKING.get(typed)
        return None if mark is None else Answer(None, mark, "success" if mark else "failure")
    if clips == 2:
        ranks = COMPARING.get(typed)
        return None if ranks is None else Answer(ranks, None, WORDS[ranks])
    if clips == 1:
        number = int(typed) if typed.isdecimal() and typed.isascii() else 0
        return Answer(None, float(number), f"{number} of {levels}") if 1 <= number <= levels else None
    seen = ranking(typed, clips)
    return None if seen is None else Answer(seen, None, f"best first: {typed}")


def ranking(typed: str, clips: int) -> tuple[int, ...] | None:
    """Returns the ranks by clip of "312" (the third is best, then the first) or "3=12" (the third and the first
    tie)."""
    groups: list[list[str]] = []
    for before, c in zip(" " + typed, typed, strict=False):
        if c == "=":
            continue
        if before == "=" and groups:
            groups[-1].append(c)
        else:
            groups.append([c])
    rank = {c: place for place, group in enumerate(groups) for c in group}
    numbers = [str(i + 1) for i in range(clips)]
    if sorted(typed.replace("=", "")) != numbers:
        return None
    return tuple(rank[number] for number in numbers)


def keys(clips: int, levels: int, kind: str = "") -> str:
    """Returns the key table, in a line."""
    rest = "s cannot tell   u undo   Enter repeats   q leaves"
    if kind == SUCCESS:
        return f"y success   n failure   {rest}"
    if clips == 2:
        return f"a left   d right   w equal   {rest}"
    if clips == 1:
        return f"1 worst ... {levels} best   {rest}"
    example = "".join(str(i) for i in range(clips, 0, -1))
    return f"{example} the best first, = between equals   {rest}"
