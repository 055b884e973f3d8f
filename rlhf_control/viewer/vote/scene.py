"""From what the window knows to what is to be drawn."""

from typing import TYPE_CHECKING

from rlhf_control.data import Array
from rlhf_control.labelling.run_state import goal, pace, run_line, situation
from rlhf_control.labelling.session import ALL_DONE, ANSWERED, FINISHED
from rlhf_control.viewer.vote import waiting_pages as pages
from rlhf_control.viewer.vote.parts import Bar, Scene
from rlhf_control.viewer.vote.waiting_pages import Page, sentence
from rlhf_control.wording import counted, duration, question_of

if TYPE_CHECKING:
    from rlhf_control.viewer.vote.ballot import Ballot
    from rlhf_control.viewer.vote.controller import Desk

FLASH_SECONDS = 0.5
SPINS = 10  # a second


def pictures_of(desk: "Desk", ballot: "Ballot") -> tuple[list[Array | None], tuple[int | None, ...]]:
    """The frame (H, W, 3) of each clip that is due now, and which of its frames it is. All or none: they run in step,
    and nobody should judge by the one that is drawn first."""
    clips = [desk.reel.frames(digest) for digest in ballot.question.clips] if desk.reel is not None else [None]
    whole = [frames for frames in clips if frames is not None]
    if len(whole) < len(ballot.question.shown):
        nothing = [None] * len(ballot.question.shown)
        return list(nothing), tuple(nothing)
    numbers = [ballot.playback.frame(len(frames)) for frames in whole]
    return [frames[t] for frames, t in zip(whole, numbers, strict=True)], tuple(numbers)


def scene_of(desk: "Desk", ballot: "Ballot", frames: tuple[int | None, ...], hover: str) -> Scene:
    drawn = frames[0] is not None
    action, since = desk.flash
    level = max(0, 10 - int((desk.now - since) / FLASH_SECONDS * 10)) if action else 0
    longest = desk.frames_of(ballot)
    notice, until = desk.notice
    status = desk.view.news.status if desk.view is not None else None
    why = f"{sentence(desk.problem())}S goes on without an answer." if desk.problem() else ""
    renderer = desk.reel.clips.error() if desk.reel is not None and not drawn else ""
    return Scene(
        bar=bar_of(desk),
        question=question_of(len(ballot.question.shown), status.question if status is not None else ""),
        mode=ballot.mode,
        frames=frames,
        look=f"{desk.reel.size} {desk.reel.camera}" if desk.reel is not None else "",
        share=ballot.playback.frame(longest) / max(1, longest - 1),
        enabled=drawn,
        paused=ballot.playback.paused,
        speed=ballot.playback.speed,
        camera=desk.cameras()[desk.camera] if len(desk.cameras()) > 1 else "",
        undo=bool(ballot.order) or bool(desk.session and desk.session.done),
        flash=(action, level) if level else ("", 0),
        last=desk.last,
        expected=desk.expected,
        notice=notice if desk.now < until else why or renderer or desk.trouble,
        problem=why,
        levels=desk.config.levels,
        order=ballot.order,
        confirmable=ballot.whole() is not None,
        tie=ballot.tie,
        drag=ballot.drag,
        spin=0 if drawn else int(desk.now * SPINS),
        hover=hover,
    )


def bar_of(desk: "Desk") -> Bar:
    if desk.view is None:
        return Bar()
    news, session = desk.view.news, desk.view.session
    wanted = goal(news.tally, news.status)
    speed = pace(session.done, session.left(news.tally, wanted))
    text = ""
    if speed.per_minute is not None and speed.seconds_left is not None:
        text = f"{counted(max(1, round(speed.per_minute)), 'vote')} a minute"
        if speed.seconds_left and (news.lively or news.status is None):
            text += f", about {duration(speed.seconds_left)} left"
    line, mood = run_line(news, desk.clock())
    return Bar(news.tally.answers, wanted, text, line, mood)


def page_of(desk: "Desk") -> Page:
    if desk.summary_since is not None:
        over = desk.view is not None and situation(desk.view.news) in (FINISHED, ANSWERED, ALL_DONE)
        return pages.summary_page(desk.facts, desk.run, over)
    if desk.away:
        return pages.away_page()
    if desk.trouble:
        return pages.trouble_page(desk.trouble)
    if desk.view is None:
        return pages.opening_page(desk.run, starting=desk.now - desk.opened > 1.0)
    undo = bool(desk.session and desk.session.done)
    return pages.page_of(desk.view.news, desk.run, desk.clock(), undo=undo, sound=desk.sound, facts=desk.facts)
