"""From the voting desk to the driver's seat and back: the person shows how to do better than a clip."""

import time
from typing import TYPE_CHECKING

from rlhf_control.errors import UserError

if TYPE_CHECKING:
    from rlhf_control.viewer.vote.ballot import Ballot
    from rlhf_control.viewer.vote.controller import Desk


DRIVE_SECONDS = 600.0  # that a question is kept meanwhile


def do_better(desk: "Desk", ballot: "Ballot", place: int) -> None:
    """The person drives the environment from where the clip at this place began."""
    from rlhf_control.viewer.play.play import drive  # brings the simulators along

    assert desk.session is not None and desk.view is not None
    digest = ballot.question.clips[place]
    status = desk.environment
    clip = desk.session.store.segments([digest])[digest]
    if status is None or clip.state is None or desk.reel is None:
        return
    desk.worker.do("renew", desk.session.renew, DRIVE_SECONDS)
    desk.say("The simulator starts")
    desk.painter.paint(desk)
    try:
        original, desk.notice = desk.reel.frames(digest), ("", 0.0)
        improved = drive(desk.window, status.env_id, status.env, clip.state[0], len(clip.obs), original=original)
        desk.now = time.perf_counter()
        if improved is not None:
            desk.session.correct(place, improved, ballot.question)
            desk.say("Kept: the policy learns from what you did. And the question?")
    except UserError as error:
        desk.say(str(error))
    ballot.show(False, desk.now)
    desk.painter.drawn, desk.touched, desk.renewed = None, time.perf_counter(), 0.0
