"""From voting to the driver's seat and back: the person shows how to do better than a clip."""

from rlhf_control.data import Segments
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.vote.state import VotingState


def clip_to_correct(state: VotingState, place: int) -> Segments | None:
    """Returns the clip (L, ...) at this place of the question, or None if nothing can begin where it began."""
    if state.session is None or state.ballot is None or state.environment is None or state.buffer is None:
        return None
    digest = state.ballot.question.clips[place]
    clip = state.session.store.segments([digest])[digest]
    return clip if clip.state is not None else None


def improve(window: Window, state: VotingState, place: int, clip: Segments) -> Segments | None:
    """Lets the person drive the environment from where the clip (L, ...) at this place began; returns what was driven
    (L, ...), or None. Raises UserError if the environment cannot be driven by keys."""
    from rlhf_control.viewer.play.play import record_correction  # brings the simulators along

    assert state.ballot is not None and state.environment is not None and state.buffer is not None
    assert clip.state is not None
    original = state.buffer.frames(state.ballot.question.clips[place])
    status = state.environment
    return record_correction(window, status.env_id, status.env, clip.state[0], len(clip.obs), original=original)
