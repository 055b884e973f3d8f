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
from rlhf_control.labelling.session import LEAST_SECONDS, RENEW_SECONDS, Question, Session
from rlhf_control.labelling.summary import Fact, summary
from rlhf_control.runs.status import Status, trusted_environment
from rlhf_control.viewer.kit.chime import chime
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer, Clips
from rlhf_control.viewer.kit.window import Closed, Event, Key, Mouse, Window
from rlhf_control.viewer.kit.worker import Result, Worker
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.correcting import do_better
from rlhf_control.viewer.vote.keys import action_of
from rlhf_control.viewer.vote.order import LETTERS, moved, without
from rlhf_control.viewer.vote.painter import Painter
from rlhf_control.viewer.vote.parts import Drag, track_place
from rlhf_control.viewer.vote.poll import LOCKED_SECONDS, Polled, poll
from rlhf_control.viewer.vote.question_page import drop_target

POLL_SECONDS = 0.5  # between two polls of the run
AWAY_SECONDS = 300.0  # without a key or a movement: the question is no longer kept for this annotator
NOTICE_SECONDS = 4.0
SUMMARY_SECONDS = 20.0  # then the window closes by itself
TOO_SOON = "Not counted: these clips were not on the screen long enough. Look at them, then answer."
SAVING = "Not counted: the last answer is still on its way to the disk."
HELD_SECONDS = (0.4, 0.06)  # a key that steps is held: before it repeats, and between steps
DRAG_UNITS = 6  # of movement make a click a drag
LEAVE_SECONDS = 30.0  # that the votes under way may wait for another program when the window is closed
DRAGGED = ("place", "card")  # actions of what can be dragged

OpenClips = Callable[[Path, str, Mapping[str, Any]], Clips]


class VotingController:
    """`open_clips` makes the run's `ClipCache`. All that waits for the disk is the worker's."""

    def __init__(self, window: Window, config: LabelConfig, run: Path, open_clips: OpenClips) -> None:
        self.window, self.config, self.run, self.open_clips = window, config, run, open_clips
        self.worker, self.painter = Worker(window.wake), Painter(window)
        self.predictions = Predictions(run)
        self.session: Session | None = None
        self.environment: Status | None = None  # of the clips; checked once, and used ever after
        self.buffer: ClipBuffer | None = None
        self.polled: Polled | None = None
        self.ballot: Ballot | None = None  # of the question before the annotator
        self.speed, self.camera = config.speed, 0
        self.pressed: tuple[str, float, float] = ("", 0.0, 0.0)  # the action and the place where the mouse went down
        self.flash: tuple[str, float] = ("", 0.0)  # the last answer's action, and when
        self.last = self.expected = ""  # the last answer, and what the model expected there, in words
        self.notice: tuple[str, float] = ("", 0.0)  # and until when
        self.trouble = ""  # why the store cannot be read
        self.facts: tuple[Fact, ...] = ()  # of the summary
        self.summary_since: float | None = None  # the person wants to leave and reads it
        self.help = self.away = self.choosing = False
        self.sound = config.sound
        self.going = True
        self.now = self.before = self.touched = self.opened = self.idle_since = time.perf_counter()
        self.polled_at = self.renewed = self.stepped = self.now - 60.0

    # -- one frame

    def step(self) -> bool:
        """One frame; False when the person has left."""
        self.before, self.now = self.now, time.perf_counter()  # between the two the person did what is handled now
        for event in self.window.events():
            self.handle(event)
        for result in self.worker.results():
            self.take(result)
        self.poll()
        self.want_clips()
        if self.ballot is not None and self.ballot.shown_at is not None and not self.help:
            self.ballot.playback.advance(self.now - self.before)
        whole = self.painter.paint(self)
        if self.ballot is not None:
            self.ballot.show(whole and not self.help, time.perf_counter())
        return self.going

    def poll(self) -> None:
        """What is due by the clock."""
        leaving = self.summary_since is not None
        if self.now - self.polled_at > POLL_SECONDS and not self.worker.doing("poll", "vote", "undo", "summary"):
            self.polled_at = self.now
            self.worker.do("poll", poll, self.run, self.config, self.polled, not leaving)
        if self.session is not None and self.session.store.database.locked(LOCKED_SECONDS):
            self.say("Another program keeps the file of the votes locked; waiting for it")
        self.away = self.away or (self.now - self.touched > AWAY_SECONDS and self.ballot is not None)
        due = self.ballot is not None and not self.away and self.now - self.renewed > RENEW_SECONDS
        if due and self.session is not None:
            self.renewed = self.now
            self.worker.do("renew", self.session.renew)
        if self.summary_since is not None and self.now - self.summary_since > SUMMARY_SECONDS:
            self.going = False
        for key, action in ((",", "back"), (".", "forward")):
            if key in self.window.held and self.now - self.stepped > HELD_SECONDS[1]:
                self.stepped = self.now
                self.act(action)

    def want_clips(self) -> None:
        """Has the clips drawn that are before the annotator or will be."""
        if self.polled is None or self.buffer is None:
            return
        questions = [q for q in self.polled.ahead if self.ballot is None or q.key != self.ballot.question.key]
        if self.ballot is not None:
            questions.insert(0, self.ballot.question)
        if questions:
            clips = [digest for question in questions for digest in question.clips]
            self.buffer.want(clips, self.painter.clip_size(len(questions[0].shown)), self.camera)

    def close(self) -> Session | None:
        """Ends all that goes on; the session, if there was one."""
        self.settle()
        if self.buffer is not None:
            self.buffer.clips.close()
        return self.session

    def settle(self) -> None:
        """Lets votes under way come to the disk and gives back what is not answered."""
        if self.session is not None:
            self.session.store.database.hurry(LEAVE_SECONDS)
        saved = self.worker.close(LEAVE_SECONDS + 5.0)
        for result in self.worker.results():  # the first poll may just have opened the store and claimed a question
            if isinstance(result.value, Polled):
                self.session = result.value.session
            saved = saved and not (result.name in ("vote", "undo") and result.error)
        if not saved:
            tell("the last answer could not be saved; open the window again to give it")
        if self.session is not None:
            self.session.close()

    # -- what the disk says

    def take(self, result: Result) -> None:
        """What the worker has done."""
        name, value, error = result.name, result.value, result.error
        if error is not None and not isinstance(error, UserError):
            raise error
        if name == "poll":
            self.trouble = str(error) if error is not None else ""
            if value is not None:
                self.take_polled(value)
        elif error is not None:
            self.flash, self.last = ("", 0.0), ""
            self.say(f"Not saved, so please answer again: {error}" if name == "vote" else str(error))
            self.going = self.going and name != "summary"
        elif name in ("vote", "undo"):
            self.polled_at = 0.0  # ask at once
            self.arrive(value)
            if self.ballot is not None:
                self.ballot.returned = name == "undo"
        elif name == "renew" and not value and self.session is not None and not self.worker.doing("vote", "undo"):
            self.say("Somebody else has answered that question meanwhile")
            self.arrive(self.session.question)
        elif name == "expected":
            self.expected = value
        elif name in ("facts", "summary"):
            self.facts = tuple(value)
            if name == "summary":
                self.summary_since, self.ballot = self.now, None

    def take_polled(self, polled: Polled) -> None:
        self.polled, self.session = polled, polled.session
        if self.environment is None:
            self.environment = trusted_environment(self.run, polled.news.status, self.config.env_id)
        if self.buffer is None and self.environment is not None and self.environment.env_id:
            self.buffer = ClipBuffer(self.open_clips(self.run, self.environment.env_id, self.environment.env))
        if self.summary_since is not None or self.worker.doing("vote", "undo", "summary"):
            return  # what it says about the question is not the latest
        self.arrive(polled.question)
        if self.ballot is None and not self.facts and self.session.done and not self.worker.doing("facts"):
            self.worker.do("facts", summary, self.session)

    def arrive(self, question: Question | None) -> None:
        """This is before the annotator from now on."""
        before = self.ballot
        if question is None:
            if before is not None:
                self.idle_since = self.now
            self.ballot = None
        elif before is None or before.question.key != question.key:
            self.ballot, self.facts, self.pressed = Ballot(question, self.speed, self.now), (), ("", 0.0, 0.0)
            if before is None and self.sound and self.now - self.idle_since > 2.0:
                chime()
        if self.ballot is not None and self.polled is not None:
            steps = self.polled.steps.get(self.ballot.question.key, 0)
            status = self.polled.news.status or self.environment
            if status is not None and steps:
                self.ballot.playback.length = steps * status.step_seconds

    # -- what the person does

    def handle(self, event: Event) -> None:
        if isinstance(event, Closed):
            self.going = False
        if not isinstance(event, Key | Mouse):
            return
        self.touched = self.now
        pressed = isinstance(event, Key) or event.what == "down"
        if self.away:
            if pressed and self.session is not None:
                self.away, self.renewed = False, self.now
                self.worker.do("renew", self.session.renew)
        elif self.help and pressed:
            self.help = False
        elif isinstance(event, Key):
            if event.name in (",", "."):
                self.stepped = self.now + HELD_SECONDS[0]
            self.act(self.meaning(event))
        else:
            self.handle_mouse(event)

    def meaning(self, key: Key) -> str:
        """The action of a key, here and now."""
        if self.summary_since is not None:
            return {"backspace": "stay", "escape": "leave", "return": "leave", "space": "leave"}.get(key.name, "")
        if self.trouble and self.ballot is None and key.name == "r":
            return "retry"
        return action_of(key, self.ballot.mode if self.ballot is not None else "", self.config.levels)

    def handle_mouse(self, event: Mouse) -> None:
        x, y = event.x, event.y
        action, x0, y0 = self.pressed
        if event.what == "down" and event.button == 1:
            action = self.window.hit(x, y)
            self.pressed = (action, x, y)
            if action == "seek":
                self.seek(x)
            elif action.split(" ")[0] not in DRAGGED:  # for those, the button going up tells a click from a drag
                self.act(action)
        elif event.what == "move" and action == "seek":
            self.seek(x)
        elif event.what == "move" and action.split(" ")[0] in DRAGGED and self.ballot is not None:
            if self.ballot.drag is not None or max(abs(x - x0), abs(y - y0)) > self.window.px(DRAG_UNITS):
                self.ballot.drag = Drag(int(action.split(" ")[1]), x, y)
        elif event.what == "up" and event.button == 1:
            self.pressed = ("", 0.0, 0.0)
            if self.ballot is not None and self.ballot.drag is not None:
                self.drop(self.ballot, from_card=action.startswith("card"))
            elif action.split(" ")[0] in DRAGGED:
                self.act(action)

    def drop(self, ballot: Ballot, from_card: bool) -> None:
        """The dragged clip goes where it was let go."""
        target = drop_target(self.window, ballot.order, ballot.drag, len(ballot.question.shown))
        if ballot.drag is not None and target is not None:
            ballot.order = moved(ballot.order, ballot.drag.clip, target[0], tie=target[1])
        elif ballot.drag is not None and from_card:  # out of the order
            ballot.order = without(ballot.order, ballot.drag.clip)
        ballot.drag = None

    def seek(self, x: float) -> None:
        if self.ballot is not None and self.buffer is not None:
            left, _, width, _ = track_place(self.window, self.ballot.mode, len(self.ballot.question.shown))
            self.ballot.playback.seek((x - left) / width, self.frames_of(self.ballot))

    def act(self, action: str) -> None:
        """Does what a key or a button means."""
        commands: dict[str, Callable[[], None]] = {
            "help": self.open_help, "sound": self.switch_sound, "camera": self.next_camera, "leave": self.leave,
            "stay": self.stay, "retry": self.stay, "correct": self.correct,
        }  # fmt: skip
        ballot = self.ballot
        if self.choosing:
            self.choosing, self.notice = False, ("", 0.0)
            clip = action.split(" ")[-1]
            if action.startswith(("prefer", "place")) and ballot is not None:
                do_better(self, ballot, int(clip))
        elif action in commands:
            commands[action]()
        elif action == "undo" and (ballot is None or not ballot.order):
            self.undo()
        elif ballot is not None and ballot.since is not None and ballot.control(action, self.frames_of(ballot)):
            self.speed = ballot.playback.speed
        elif ballot is not None and self.answerable():
            if not ballot.arrange(action):
                self.answer(ballot, action)
        elif ballot is not None and action == "cannot tell" and self.problem() and self.told(ballot):
            self.answer(ballot, action)
        elif ballot is not None and ballot.miss(action):
            self.say(SAVING if self.saving() else TOO_SOON)

    def saving(self) -> bool:
        return self.worker.doing("vote", "undo")

    def answerable(self) -> bool:
        """Whether the question was on the screen before what is handled now was pressed, and for long enough, and the
        last answer is on the disk."""
        return self.ballot is not None and self.ballot.seen(self.before) and not self.saving()

    def told(self, ballot: Ballot) -> bool:
        """Whether the person has had the time to read why the clips are not there."""
        return self.before - ballot.came >= LEAST_SECONDS and not self.saving()

    def problem(self) -> str:
        """Why this question's clips can never be shown, or ""."""
        return (
            self.buffer.problem(self.ballot.question.clips)
            if self.ballot is not None and self.buffer is not None
            else ""
        )

    def frames_of(self, ballot: Ballot) -> int:
        clips = [self.buffer.frames(digest) for digest in ballot.question.clips] if self.buffer is not None else []
        return max((len(frames) for frames in clips if frames is not None), default=1)

    def answer(self, ballot: Ballot, action: str) -> None:
        given = ballot.answer(action)
        if given is None or self.session is None:
            return
        seconds = self.now - (ballot.shown_at or self.now)
        self.flash, self.last, self.expected = (action, self.now), f"Last: {given.words}", ""
        self.notice = ("", 0.0)
        self.worker.do("vote", self.session.vote, given.seen, given.value, seconds, ballot.question)
        if self.config.show_prediction:
            self.worker.do("expected", self.expectation, ballot.question)

    def expectation(self, question: Question) -> str:
        """In the worker's thread: what the model expected, in words."""
        expected = self.predictions.expected(question)
        return "" if expected is None else f"The model expected {LETTERS[expected[0]]} ({expected[1]:.0%})"

    def undo(self) -> None:
        """Takes the last answer back. One that an undo has brought back has to be seen before the next one goes."""
        if self.session is None or not self.session.done:
            return
        unseen = self.ballot is not None and self.ballot.returned and not (self.answerable() or self.problem())
        if self.saving() or unseen:
            self.say(SAVING if self.saving() else TOO_SOON)
            return
        self.flash, self.last, self.expected = ("", 0.0), "Taken back", ""
        self.summary_since = None
        self.worker.do("undo", self.session.undo)

    @staticmethod
    def clock() -> float:
        """Unix time, as the run tells it."""
        return time.time()

    def correctable(self) -> bool:
        """Whether the clips can be gone on from: whether the environment has keys is seen when somebody tries."""
        return self.polled is not None and self.polled.states

    def say(self, notice: str, seconds: float = NOTICE_SECONDS) -> None:
        self.notice = (notice, self.now + seconds)

    def open_help(self) -> None:
        self.help = True

    def switch_sound(self) -> None:
        self.sound = not self.sound
        self.say(f"Sound {'on: it tells when a question comes after a pause' if self.sound else 'off'}")
        if self.sound:
            chime()

    def cameras(self) -> list[str]:
        """Names of the views; empty while they are not known."""
        return self.buffer.clips.cameras() if self.buffer is not None else []

    def next_camera(self) -> None:
        names = self.cameras()
        if len(names) > 1:
            self.camera = (self.camera + 1) % len(names)

    def stay(self) -> None:
        """Back to voting."""
        self.summary_since, self.facts, self.polled_at = None, (), 0.0

    def leave(self) -> None:
        """Gives the question back at once. Who has voted sees how it went, and leaves by the next key."""
        if self.session is None or not self.session.done or self.summary_since or self.worker.doing("summary"):
            self.going = False
            return
        self.worker.do("close", self.session.close)
        self.worker.do("summary", summary, self.session)

    def correct(self) -> None:
        """Asks which clip the person wants to do better; with a single one, there is no question."""
        if self.ballot is None or self.ballot.since is None or self.saving() or not self.correctable():
            return
        self.choosing = len(self.ballot.question.shown) > 1
        if self.choosing:
            self.say("Which clip will you do better? Its key or a click says it; any other key goes back.", math.inf)
        else:
            do_better(self, self.ballot, 0)
