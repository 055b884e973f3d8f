"""From what the window knows to what is to be drawn."""

import time

from rlhf_control.data import Array
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.labelling.run_state import goal, pace, run_line, situation
from rlhf_control.labelling.session import ALL_DONE, ANSWERED, FINISHED
from rlhf_control.viewer.kit.playback import Playback
from rlhf_control.viewer.vote import waiting_pages as pages
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.parts import Bar, Scene
from rlhf_control.viewer.vote.state import VotingState
from rlhf_control.viewer.vote.waiting_pages import WaitingPage, sentence
from rlhf_control.wording import counted, duration, question_of

FLASH_SECONDS = 0.5
SPINS = 10  # a second


def pictures_of(state: VotingState, ballot: Ballot) -> tuple[list[Array | None], tuple[int | None, ...]]:
    """Returns the frame (H, W, 3) of each clip that is due now, and which of its frames it is. All or none: they run in
    step, and nobody should judge by the one that is drawn first."""
    clips = [state.buffer.frames(digest) for digest in ballot.question.clips] if state.buffer is not None else []
    whole = [frames for frames in clips if frames is not None]
    if len(whole) < len(ballot.question.shown):
        nothing = [None] * len(ballot.question.shown)
        return list(nothing), tuple(nothing)
    numbers = [ballot.playback.frame(len(frames)) for frames in whole]
    if ballot.question.asked.strategy == EARLY_END:  # one is shorter, and stands at its end
        numbers = [min(len(frames) - 1, ballot.playback.frame(state.frames())) for frames in whole]
    return [frames[t] for frames, t in zip(whole, numbers, strict=True)], tuple(numbers)


def scene_of(state: VotingState, ballot: Ballot, frames: tuple[int | None, ...], hover: str) -> Scene:
    """Returns all that is on the page of a question but the pictures."""
    drawn = frames[0] is not None
    ends_early = ballot.question.asked.strategy == EARLY_END
    action, since = state.flash
    level = max(0, 10 - int((state.now - since) / FLASH_SECONDS * 10)) if action else 0
    longest = state.frames()
    notice, until = state.notice
    status = state.polled.news.status if state.polled is not None else None
    why = f"{sentence(state.problem())}S goes on without an answer." if state.problem() else ""
    renderer = state.buffer.clips.error() if state.buffer is not None and not drawn else ""
    return Scene(
        bar=bar_of(state),
        question=question_of(len(ballot.question.shown), status.question if status is not None else "", ballot.mode),
        end=ending_words(ballot.playback),
        mode=ballot.mode,
        frames=frames,
        over=tuple(ends_early and drawn and ballot.playback.frame(longest) > t for t in frames if t is not None),
        drawn_as=f"{state.buffer.size} {state.buffer.camera}" if state.buffer is not None else "",
        share=ballot.playback.frame(longest) / max(1, longest - 1),
        enabled=drawn,
        paused=ballot.playback.paused,
        speed=ballot.playback.speed,
        camera=state.cameras()[state.camera] if len(state.cameras()) > 1 else "",
        undo=bool(ballot.order) or state.undoable(),
        flash=(action, level) if level else ("", 0),
        last=state.last,
        expected=state.expected,
        notice=notice if state.now < until else why or renderer or state.trouble,
        problem=why,
        levels=state.config.levels,
        order=ballot.order,
        confirmable=ballot.whole() is not None,
        tie=ballot.tie,
        drag=ballot.drag,
        spin=0 if drawn else int(state.now * SPINS),
        hover=hover,
    )


def ending_words(playback: Playback) -> str:
    """Says what of an episode is shown, if it is not all."""
    if not playback.first:
        return ""
    return f"the last {playback.length - playback.first:.2g} s of {playback.length:.3g} s; R shows all"


def bar_of(state: VotingState) -> Bar:
    """Returns what is always visible: how far the votes and the run are."""
    if state.polled is None:
        return Bar()
    news, session = state.polled.news, state.polled.session
    wanted = goal(news.tally, news.status)
    speed = pace(session.done, session.left(news.tally, wanted))
    text = ""
    if speed.per_minute is not None and speed.seconds_left is not None:
        text = f"{counted(max(1, round(speed.per_minute)), 'vote')} a minute"
        if speed.seconds_left and (news.lively or news.status is None):
            text += f", about {duration(speed.seconds_left)} left"
    line, mood = run_line(news, time.time())
    return Bar(news.tally.answers, wanted, text, line, mood)


def page_of(state: VotingState) -> WaitingPage:
    """Returns the page that stands where no question does."""
    if state.summary_since is not None:
        over = state.polled is not None and situation(state.polled.news) in (FINISHED, ANSWERED, ALL_DONE)
        return pages.summary_page(state.facts, state.run, over)
    if state.away:
        return pages.away_page()
    if state.trouble:
        return pages.trouble_page(state.trouble)
    if state.polled is None:
        return pages.opening_page(state.run, starting=state.now - state.opened > 1.0)
    news, undo = state.polled.news, state.undoable()
    return pages.page_of(news, state.run, time.time(), undo=undo, sound=state.sound, facts=state.facts)
