"""Answers for which nobody has to be waited for: by an oracle, by what is known beforehand, by an earlier run."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rlhf_control.data import DEMONSTRATION, Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.oracles import Oracle
from rlhf_control.feedback.schema import GOLD, Asked, new_vote
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rng import stream
from rlhf_control.runs.files import sync

# A commit waits for the disk, some 20 ms. A synthetic oracle's answers of this long share one (after a crash it gives
# them again). Whoever takes longer over an answer, as people do, has it on the disk before the next question.
COMMIT_SECONDS = 0.1
Gold = dict[str, tuple[Query, tuple[int, ...]]]  # by key: to ask about, and the ranks that are right


def consult(
    oracle: Oracle, store: FeedbackStore, queries: Iterable[tuple[str, Query]], pool: Segments, seed: int
) -> None:
    """Puts an oracle's answers to these queries, given with their keys, into the store. The oracle also sees `pool`,
    the clips (S, L, ...) to choose from."""
    votes, committed = [], time.monotonic()
    try:
        for key, query in queries:
            votes.append(new_vote(key, oracle(query, pool, stream(seed, "answer", query.round, query.index))))
            if time.monotonic() - committed > COMMIT_SECONDS:
                store.add(votes=votes)
                votes, committed = [], time.monotonic()
    finally:  # whatever ends the oracle, what it has answered is kept
        store.add(votes=votes)


def annotators_of(query: Query, people: int) -> int:
    """Returns how many have to answer a query that so many people are asked: beside them, whoever knows the answer."""
    return 1 if query.kind == DEMONSTRATION else people + (query.strategy == GOLD)


def answer_known(store: FeedbackStore, asked: Sequence[Asked], gold: Gold) -> None:
    """Puts the known answers to these queries into the store, unless they are there: of gold, and of demonstrations."""
    known = {a.key: Feedback(gold[a.key][1], GOLD) for a in asked if a.strategy == GOLD}
    for a in asked:
        if a.kind == DEMONSTRATION:  # it stands above the policy's own clips, and that is all it says
            known[a.key] = Feedback((0,) + (1,) * (len(a.clips) - 1), DEMONSTRATION)
    given = {(vote.query, vote.annotator) for vote in store.votes()} if known else set()
    store.add(votes=[new_vote(key, f) for key, f in known.items() if (key, f.annotator) not in given])


def replay(source: FeedbackStore, path: str | Path) -> Oracle:
    """Sets a finished run up to be run again: copies its store to `path` (unless that was done before), where the new
    run's Labels finds every vote of before in its order, and returns that run's oracle, which refuses what was never
    asked."""
    if not Path(path).exists():
        unfinished = Path(f"{path}.part")
        unfinished.unlink(missing_ok=True)
        source.copy_to(unfinished)
        sync(unfinished)
        os.replace(unfinished, path)
        sync(unfinished.parent)

    def nobody(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        raise UserError(
            f"{source.path} has no answer to query {query.index} of round {query.round}; replay a finished run, with "
            "its own settings, seed and versions"
        )

    return nobody
