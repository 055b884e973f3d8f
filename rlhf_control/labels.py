"""Asking and counting: from queries to training data, through the store."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_control.data import Array, Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.oracles import Oracle
from rlhf_control.reward import Reward
from rlhf_control.rng import stream
from rlhf_control.store import FeedbackStore


class Labels:
    """The queries of one run, in order, and their answers in the store.

    A query is known by the SHA-256 of its clips, so a resumed run that asks the same again finds the vote of before:
    no vote is lost, and none is asked for twice.
    """

    def __init__(self, store: FeedbackStore, oracle: Oracle, seed: int) -> None:
        self.store, self.oracle, self.seed = store, oracle, seed
        self.answered: dict[str, tuple[Segments, Feedback]] = {}  # digest -> clips (K, L, ...), answer; in order

    def ask(self, queries: Sequence[Query], pool: Segments) -> None:
        """Has every query answered; each answer is on the disk before the next question."""
        self.store.ask(queries)
        for query in queries:
            digest = query.segments.digest()
            for array in query.segments.arrays().values():  # a clip is known by its digest: nobody may change it
                array.setflags(write=False)
            feedback = self.store.answer(digest)
            if feedback is None:
                rng = stream(self.seed, "answer", query.round, query.index)
                feedback = self.oracle(query, pool, rng)
                self.store.vote(digest, feedback)
            self.answered[digest] = query.segments, feedback

    def pairs(self, queries: Sequence[Query] | None = None) -> tuple[Segments, Array] | None:
        """The answers to these queries (default: all): clips (Q, 2, L, ...) and targets (Q,), 1 where the first is
        preferred, 1/2 for a tie. "Cannot tell" is counted but not learned from; None if nothing is left."""
        clips, targets = [], []
        for digest in self.answered if queries is None else [q.segments.digest() for q in queries]:
            segments, feedback = self.answered[digest]
            if feedback.ranks is not None:
                first, second = feedback.ranks
                clips.append(segments)
                targets.append(0.5 if first == second else float(first < second))
        return (Segments.stack(clips), np.array(targets, np.float32)) if clips else None

    def counts(self) -> dict[str, int]:
        """Questions asked, and labels: the answers that say something ("cannot tell" is none)."""
        labels = sum(feedback.ranks is not None for _, feedback in self.answered.values())
        return {"queries": len(self.answered), "labels": labels}

    def state(self) -> dict[str, Any]:
        return {"asked": list(self.answered)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.answered = {}
        for digest in state["asked"]:
            feedback = self.store.answer(digest)
            if feedback is None:
                raise UserError(f"{self.store.path} lacks votes that the checkpoint counts; restore it from a copy")
            self.answered[digest] = self.store.query(digest).segments, feedback


def accuracy(model: Reward, pairs: Segments, target: Array) -> float:
    """Share of clear answers (Q,) that the model, which has not seen them, predicts; 1/2 if there are none."""
    clear = target != 0.5
    if not clear.any():
        return 0.5
    return float(((model.probability(pairs).mean(0) > 0.5) == (target > 0.5))[clear].mean())
