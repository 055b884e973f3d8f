"""From what the window knows to what is to be drawn."""

from typing import TYPE_CHECKING

from rlhf_control.data import Array
from rlhf_control.labelling.run_state import goal, pace, run_line, situation
from rlhf_control.labelling.session import ALL_DONE, ANSWERED, FINISHED
from rlhf_control.viewer.vote import waiting_pages as pages
from rlhf_control.viewer.vote.parts import Bar, Scene
from rlhf_control.viewer.vote.waiting_pages import WaitingPage, sentence
from rlhf_control.wording import counted, duration, question_of

if TYPE_CHECKING:
    from rlhf_control.viewer.vote.ballot import Ballot
    from rlhf_control.viewer.vote.controller import VotingController

FLASH_SECONDS = 0.5
SPINS = 10  # a second


def pictures_of(controller: "VotingController", ballot: "Ballot") -> tuple[list[Array | None], tuple[int | None, ...]]:
    """The frame (H, W, 3) of each clip that is due now, and which of its frames it is. All or none: they run in step,
    and nobody should judge by the one that is drawn first."""
    clips = (
        [controller.buffer.frames(digest) for digest in ballot.question.clips]
        if controller.buffer is not None
        else [None]
    )
    whole = [frames for frames in clips if frames is not None]
    if len(whole) < len(ballot.question.shown):
        nothing = [None] * len(ballot.question.shown)
        return list(nothing), tuple(nothing)
    numbers = [ballot.playback.frame(len(frames)) for frames in whole]
    return [frames[t] for frames, t in zip(whole, numbers, strict=True)], tuple(numbers)


def scene_of(controller: "VotingController", ballot: "Ballot", frames: tuple[int | None, ...], hover: str) -> Scene:
    drawn = frames[0] is not None
    action, since = controller.flash
    level = max(0, 10 - int((controller.now - since) / FLASH_SECONDS * 10)) if action else 0
    longest = controller.frames_of(ballot)
    notice, until = controller.notice
    status = controller.polled.news.status if controller.polled is not None else None
    why = f"{sentence(controller.problem())}S goes on without an answer." if controller.problem() else ""
    renderer = controller.buffer.clips.error() if controller.buffer is not None and not drawn else ""
    return Scene(
        bar=bar_of(controller),
        question=question_of(len(ballot.question.shown), status.question if status is not None else ""),
        mode=ballot.mode,
        frames=frames,
        look=f"{controller.buffer.size} {controller.buffer.camera}" if controller.buffer is not None else "",
        share=ballot.playback.frame(longest) / max(1, longest - 1),
        enabled=drawn,
        paused=ballot.playback.paused,
        speed=ballot.playback.speed,
        camera=controller.cameras()[controller.camera] if len(controller.cameras()) > 1 else "",
        undo=bool(ballot.order) or bool(controller.session and controller.session.done),
        flash=(action, level) if level else ("", 0),
        last=controller.last,
        expected=controller.expected,
        notice=notice if controller.now < until else why or renderer or controller.trouble,
        problem=why,
        levels=controller.config.levels,
        order=ballot.order,
        confirmable=ballot.whole() is not None,
        tie=ballot.tie,
        drag=ballot.drag,
        spin=0 if drawn else int(controller.now * SPINS),
        hover=hover,
    )


def bar_of(controller: "VotingController") -> Bar:
    if controller.polled is None:
        return Bar()
    news, session = controller.polled.news, controller.polled.session
    wanted = goal(news.tally, news.status)
    speed = pace(session.done, session.left(news.tally, wanted))
    text = ""
    if speed.per_minute is not None and speed.seconds_left is not None:
        text = f"{counted(max(1, round(speed.per_minute)), 'vote')} a minute"
        if speed.seconds_left and (news.lively or news.status is None):
            text += f", about {duration(speed.seconds_left)} left"
    line, mood = run_line(news, controller.clock())
    return Bar(news.tally.answers, wanted, text, line, mood)


def page_of(controller: "VotingController") -> WaitingPage:
    if controller.summary_since is not None:
        over = controller.polled is not None and situation(controller.polled.news) in (FINISHED, ANSWERED, ALL_DONE)
        return pages.summary_page(controller.facts, controller.run, over)
    if controller.away:
        return pages.away_page()
    if controller.trouble:
        return pages.trouble_page(controller.trouble)
    if controller.polled is None:
        return pages.opening_page(controller.run, starting=controller.now - controller.opened > 1.0)
    undo = bool(controller.session and controller.session.done)
    return pages.page_of(
        controller.polled.news,
        controller.run,
        controller.clock(),
        undo=undo,
        sound=controller.sound,
        facts=controller.facts,
    )
