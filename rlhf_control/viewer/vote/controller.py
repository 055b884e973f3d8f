"""Joins a window, a session and the clips for voting. `step` is one frame: what the person did, what the disk
answered, what has come up, and the page drawn anew if anything on it has changed."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlhf_control.config.commands import LabelConfig
from rlhf_control.errors import UserError
from rlhf_control.feedback.database import tell
from rlhf_control.labelling.predictions import Predictions
from rlhf_control.labelling.session import RENEW_SECONDS, Question, Session
from rlhf_control.labelling.summary import summary
from rlhf_control.runs.status import trusted_environment
from rlhf_control.viewer.kit.chime import chime
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer, Clips
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.kit.worker import Result, Worker
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.correcting import clip_to_correct, improve
from rlhf_control.viewer.vote.events import CLOSE, CLOSE_HELP, RETURN, Action, Drop, Events, Seek
from rlhf_control.viewer.vote.order import LETTERS, moved, without
from rlhf_control.viewer.vote.painter import Painter
from rlhf_control.viewer.vote.parts import Drag
from rlhf_control.viewer.vote.poll import LOCKED_SECONDS, Polled, poll
from rlhf_control.viewer.vote.state import VotingState

POLL_SECONDS = 0.5  # between two polls of the run
AWAY_SECONDS = 300.0  # without a key or a movement: the question is no longer kept for this annotator
SUMMARY_SECONDS = 20.0  # then the window closes by itself
DRIVE_SECONDS = 600.0  # that a question is kept while the person does better
LEAVE_SECONDS = 30.0  # that the votes under way may wait for another program when the window is closed
TOO_SOON = "Not counted: these clips were not on the screen long enough. Look at them, then answer."
SAVING = "Not counted: the last answer is still on its way to the disk."

OpenClips = Callable[[Path, str, Mapping[str, Any]], Clips]


class VotingController:
    """Changes what the window knows (`state`). `open_clips` makes the run's `ClipCache`. All that waits for the disk is
    the worker's."""

    def __init__(self, window: Window, config: LabelConfig, run: Path, open_clips: OpenClips) -> None:
        self.window, self.open_clips = window, open_clips
        self.state = VotingState(config, run, speed=config.speed, sound=config.sound)
        self.events, self.painter, self.worker = Events(window, self.state), Painter(window), Worker(window.wake)
        self.predictions = Predictions(run)
        self.idle_since = self.state.now  # there is no question since then
        self.polled_at = self.renewed = self.state.now - 60.0

    # -- one frame

    def step(self) -> bool:
        """Does one frame; returns False when the person has left."""
        state = self.state
        state.before, state.now = state.now, time.perf_counter()
        for action in self.events.actions():
            state.touched = state.now
            self.act(action)
        for result in self.worker.results():
            self.take(result)
        for action in self.events.repeated():
            self.act(action)
        self.do_what_is_due()
        self.want_clips()
        if state.ballot is not None and state.ballot.shown_at is not None and not state.help:
            state.ballot.playback.advance(state.now - state.before)
        whole = self.painter.paint(state)
        if state.ballot is not None:
            state.ballot.show(whole and not state.help, time.perf_counter())
        return state.going

    def do_what_is_due(self) -> None:
        """Does what is due by the clock."""
        state = self.state
        leaving = state.summary_since is not None
        if state.now - self.polled_at > POLL_SECONDS and not self.worker.doing("poll", "vote", "undo", "summary"):
            self.polled_at = state.now
            self.worker.do("poll", poll, state.run, state.config, state.polled, not leaving)
        if state.session is not None and state.session.store.database.locked(LOCKED_SECONDS):
            state.say("Another program keeps the file of the votes locked; waiting for it")
        state.away = state.away or (state.now - state.touched > AWAY_SECONDS and state.ballot is not None)
        if state.ballot is not None and not state.away and state.now - self.renewed > RENEW_SECONDS:
            self.renew()
        if state.summary_since is not None and state.now - state.summary_since > SUMMARY_SECONDS:
            state.going = False

    def renew(self) -> None:
        """Keeps the question for this annotator."""
        if self.state.session is not None:
            self.renewed = self.state.now
            self.worker.do("renew", self.state.session.renew)

    def want_clips(self) -> None:
        """Has the clips drawn that are before the annotator or will be."""
        state = self.state
        if state.polled is None or state.buffer is None:
            return
        questions = [q for q in state.polled.ahead if state.ballot is None or q.key != state.ballot.question.key]
        if state.ballot is not None:
            questions.insert(0, state.ballot.question)
        if questions:
            clips = [digest for question in questions for digest in question.clips]
            state.buffer.want(clips, self.painter.clip_size(questions[0]), state.camera)

    def close(self) -> Session | None:
        """Ends all that goes on; returns the session, if there was one."""
        self.settle()
        if self.state.buffer is not None:
            self.state.buffer.clips.close()
        return self.state.session

    def settle(self) -> None:
        """Lets votes under way come to the disk and gives back what is not answered."""
        state = self.state
        if state.session is not None:
            state.session.store.database.hurry(LEAVE_SECONDS)
        saved = self.worker.close(LEAVE_SECONDS + 5.0)
        for result in self.worker.results():  # the first poll may just have opened the store and claimed a question
            if isinstance(result.value, Polled):
                state.session = result.value.session
            saved = saved and not (result.name in ("vote", "undo") and result.error)
        if not saved:
            tell("the last answer could not be saved; open the window again to give it")
        if state.session is not None:
            state.session.close()

    # -- what the disk says

    def take(self, result: Result) -> None:
        """Takes in what the worker has done."""
        state, name, value, error = self.state, result.name, result.value, result.error
        state.saving = self.worker.doing("vote", "undo")
        if error is not None and not isinstance(error, UserError):
            raise error
        if name == "poll":
            state.trouble = str(error) if error is not None else ""
            if value is not None:
                self.take_polled(value)
        elif error is not None:
            state.flash, state.last = ("", 0.0), ""
            state.say(f"Not saved, so please answer again: {error}" if name == "vote" else str(error))
            state.going = state.going and name != "summary"
        elif name in ("vote", "undo"):
            self.polled_at = 0.0  # ask at once
            self.arrive(value)
            if state.ballot is not None:
                state.ballot.returned = name == "undo"
        elif name == "renew" and not value and state.session is not None and not state.saving:
            state.say("Somebody else has answered that question meanwhile")
            self.arrive(state.session.question)
        elif name == "expected":
            state.expected = value
        elif name in ("facts", "summary"):
            state.facts = tuple(value)
            if name == "summary":
                state.summary_since, state.ballot = state.now, None

    def take_polled(self, polled: Polled) -> None:
        """Takes in what the run's folder says."""
        state = self.state
        state.polled, state.session = polled, polled.session
        if state.environment is None:
            state.environment = trusted_environment(state.run, polled.news.status, state.config.env_id)
        if state.buffer is None and state.environment is not None and state.environment.env_id:
            environment = state.environment
            state.buffer = ClipBuffer(self.open_clips(state.run, environment.env_id, environment.env))
        if state.summary_since is not None or self.worker.doing("vote", "undo", "summary"):
            return  # what it says about the question is not the latest
        self.arrive(polled.question)
        if state.ballot is None and not state.facts and state.session.done and not self.worker.doing("facts"):
            self.worker.do("facts", summary, state.session)

    def arrive(self, question: Question | None) -> None:
        """Puts this question before the annotator."""
        state, before = self.state, self.state.ballot
        if question is None:
            if before is not None:
                self.idle_since = state.now
            state.ballot = None
        elif before is None or before.question.key != question.key:
            state.ballot, state.facts = Ballot(question, state.speed, state.now), ()
            if before is None and state.sound and state.now - self.idle_since > 2.0:
                chime()
        if state.ballot is not None and state.polled is not None:
            steps = state.polled.steps.get(state.ballot.question.key, 0)
            status = state.polled.news.status or state.environment
            if status is not None and steps:
                state.ballot.lasts(steps * status.step_seconds)

    # -- what the person does

    def act(self, action: Action | None) -> None:
        """Does what a key, a button or the mouse means; a mere touch (None) means nothing."""
        state, ballot = self.state, self.state.ballot
        if isinstance(action, str):
            if state.choosing and action not in (CLOSE, RETURN, CLOSE_HELP):
                self.choose(action)
            elif not self.command(action):
                self.vote(action)
        elif ballot is None:
            return
        elif isinstance(action, Drag):
            ballot.drag = action
        elif isinstance(action, Drop):
            if action.target is not None:
                ballot.order = moved(ballot.order, action.clip, action.target[0], tie=action.target[1])
            elif action.placed:  # out of the order
                ballot.order = without(ballot.order, action.clip)
            ballot.drag = None
        elif isinstance(action, Seek) and state.buffer is not None:
            ballot.playback.seek(action.share, state.frames())

    def command(self, action: str) -> bool:
        """Does what has nothing to do with the answer; returns whether the action was one of that."""
        state = self.state
        if action == CLOSE:
            state.going = False
        elif action == RETURN:
            state.away = state.away and state.session is None
            self.renew()
        elif action in ("help", CLOSE_HELP):
            state.help = action == "help"
        elif action == "sound":
            self.switch_sound()
        elif action == "camera":
            state.camera = (state.camera + 1) % max(1, len(state.cameras()))
        elif action in ("stay", "retry"):  # back to voting
            state.summary_since, state.facts, self.polled_at = None, (), 0.0
        elif action == "leave":
            self.leave()
        elif action == "correct":
            self.correct()
        elif action == "undo" and (state.ballot is None or not state.ballot.order):
            self.undo()
        else:
            return False
        return True

    def vote(self, action: str) -> None:
        """Does what concerns the question: it drives the clips, makes an order, or answers."""
        state, ballot = self.state, self.state.ballot
        if ballot is None:
            return
        if ballot.since is not None and ballot.control(action, state.frames()):
            state.speed = ballot.playback.speed
        elif state.answerable():
            if not ballot.arrange(action):
                self.answer(ballot, action)
        elif action == "cannot tell" and state.problem() and state.problem_read():
            self.answer(ballot, action)
        elif ballot.miss(action):
            state.say(SAVING if state.saving else TOO_SOON)

    def answer(self, ballot: Ballot, action: str) -> None:
        """Saves the answer that the action gives, if it gives one."""
        state, given = self.state, ballot.answer(action)
        if given is None or state.session is None:
            return
        seconds = state.now - (ballot.shown_at or state.now)
        state.flash, state.last, state.expected = (action, state.now), f"Last: {given.words}", ""
        state.notice, state.saving = ("", 0.0), True
        self.worker.do("vote", state.session.vote, given.seen, given.value, seconds, ballot.question)
        if state.config.show_prediction:
            self.worker.do("expected", expectation, self.predictions, ballot.question)

    def undo(self) -> None:
        """Takes the last answer back. One that an undo has brought back has to be seen before the next one goes."""
        state, ballot = self.state, self.state.ballot
        if state.session is None or not state.session.done:
            return
        unseen = ballot is not None and ballot.returned and not (state.answerable() or state.problem())
        if state.saving or unseen:
            state.say(SAVING if state.saving else TOO_SOON)
            return
        state.flash, state.last, state.expected = ("", 0.0), "Taken back", ""
        state.summary_since, state.saving = None, True
        self.worker.do("undo", state.session.undo)

    def switch_sound(self) -> None:
        """Turns the sound on or off, and says so."""
        state = self.state
        state.sound = not state.sound
        state.say(f"Sound {'on: it tells when a question comes after a pause' if state.sound else 'off'}")
        if state.sound:
            chime()

    def leave(self) -> None:
        """Gives the question back at once. Who has voted sees how it went, and leaves by the next key."""
        state = self.state
        if state.session is None or not state.session.done or state.summary_since or self.worker.doing("summary"):
            state.going = False
            return
        self.worker.do("close", state.session.close)
        self.worker.do("summary", summary, state.session)

    # -- corrections

    def correct(self) -> None:
        """Asks which clip the person wants to do better; with a single one, there is no question."""
        state = self.state
        if state.ballot is None or state.ballot.since is None or state.saving or not state.correctable():
            return
        state.choosing = len(state.ballot.question.shown) > 1
        if state.choosing:
            state.say("Which clip will you do better? Its key or a click says it; any other key goes back.", math.inf)
        else:
            self.do_better(state.ballot, 0)

    def choose(self, action: str) -> None:
        """Takes the action as the choice of the clip to do better."""
        state = self.state
        state.choosing, state.notice = False, ("", 0.0)
        if action.startswith(("prefer", "place")) and state.ballot is not None:
            self.do_better(state.ballot, int(action.split(" ")[-1]))

    def do_better(self, ballot: Ballot, place: int) -> None:
        """Lets the person drive from where the clip at this place began, and keeps what was better."""
        state, clip = self.state, clip_to_correct(self.state, place)
        if clip is None or state.session is None:
            return
        self.worker.do("renew", state.session.renew, DRIVE_SECONDS)
        state.say("The simulator starts")
        self.painter.paint(state)
        state.notice = ("", 0.0)
        try:
            improved = improve(self.window, state, place, clip)
            state.now = time.perf_counter()
            if improved is not None:
                state.session.correct(place, improved, ballot.question)
                state.say("Kept: the policy learns from what you did. And the question?")
        except UserError as error:
            state.say(str(error))
        ballot.show(False, state.now)
        self.painter.drawn, state.touched, self.renewed = None, time.perf_counter(), 0.0


def expectation(predictions: Predictions, question: Question) -> str:
    """Says what the model expected, or "". It waits for the disk."""
    expected = predictions.expected(question)
    return "" if expected is None else f"The model expected {LETTERS[expected[0]]} ({expected[1]:.0%})"
