"""From voting to the driver's seat and back: the person shows how to do better than a clip."""

import time
from typing import TYPE_CHECKING

from rlhf_control.errors import UserError

if TYPE_CHECKING:
    from rlhf_control.viewer.vote.ballot import Ballot
    from rlhf_control.viewer.vote.controller import VotingController


DRIVE_SECONDS = 600.0  # that a question is kept meanwhile


def do_better(controller: "VotingController", ballot: "Ballot", place: int) -> None:
    """The person drives the environment from where the clip at this place began."""
    from rlhf_control.viewer.play.play import record_correction  # brings the simulators along

    assert controller.session is not None and controller.polled is not None
    digest = ballot.question.clips[place]
    status = controller.environment
    clip = controller.session.store.segments([digest])[digest]
    if status is None or clip.state is None or controller.buffer is None:
        return
    controller.worker.do("renew", controller.session.renew, DRIVE_SECONDS)
    controller.say("The simulator starts")
    controller.painter.paint(controller)
    try:
        original, controller.notice = controller.buffer.frames(digest), ("", 0.0)
        improved = record_correction(
            controller.window, status.env_id, status.env, clip.state[0], len(clip.obs), original=original
        )
        controller.now = time.perf_counter()
        if improved is not None:
            controller.session.correct(place, improved, ballot.question)
            controller.say("Kept: the policy learns from what you did. And the question?")
    except UserError as error:
        controller.say(str(error))
    ballot.show(False, controller.now)
    controller.painter.drawn, controller.touched, controller.renewed = None, time.perf_counter(), 0.0
