"""Corrections as they are stored: a query with its answer, which nobody is asked for."""

import time

from rlhf_control.data import CORRECTION, Feedback, Query, Segments
from rlhf_control.feedback.schema import Asked, Version, new_vote, query_key
from rlhf_control.feedback.store import FeedbackStore


def store_correction(
    store: FeedbackStore, original: Segments, improved: Segments, annotator: str, *, round: int = 0, index: int = 0,
    policy: Version = None,
) -> str:  # fmt: skip
    """Stores that somebody did better than the policy, a clip (L, ...) each, and returns the query's key. Whoever reads
    the store, such as the run that it belongs to, learns from it with the vote."""
    clips = Segments.stack([original.without_frames(), improved.without_frames()])
    query = Query(round, index, CORRECTION, clips, CORRECTION)
    parts = [clips[side].present() for side in (0, 1)]
    digests = tuple(part.digest() for part in parts)
    place = (query_key(query), CORRECTION, 0, round, index, CORRECTION, 1, policy, None, time.time())
    asked = Asked(*place, digests)
    store.add([asked], dict(zip(digests, parts, strict=True)), [new_vote(asked.key, Feedback((1, 0), annotator))])
    return asked.key
