"""What the loop, the guards, the queries and people need of a reward, learned or known.

E ensemble, Q pairs, L steps of a clip, T time, N environments.
"""

from typing import Any, Protocol

import numpy as np

from rlhf_control.data import Answers, Array, Rollout, Segments


class Reward(Protocol):
    """Scores steps and clips, once it is fitted."""

    fitted: bool

    def predict(self, steps: Rollout | Segments) -> Array:
        """Returns (...,) float32: mean 0, standard deviation about 1 on what it was fitted with; 0 before the first."""
        ...

    def uncertainty(self, steps: Rollout | Segments) -> Array:
        """Returns (...,) how unsure it is of each step, in the units of `predict`."""
        ...

    def clip_logits(self, clips: Segments) -> Array:
        """Returns (E, ...) for clips (..., L): i is preferred to j with probability sigmoid(logit i - logit j)."""
        ...

    def probability(self, pairs: Segments) -> Array:
        """Returns (E, Q): the probability that the first clip of each pair (Q, 2, L, ...) is preferred."""
        ...

    def trust_in(self, answers: Answers) -> Array:
        """Returns how far the annotator of each answer (Q,) is trusted, from -1 (says the opposite) to 1."""
        ...

    def fit(self, answers: Answers, reference: Segments, rng: np.random.Generator) -> dict[str, float]:
        """Learns from answers and returns metrics; `reference` (S, L, ...) is what the policy does."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to this state. Raises KeyError or ValueError for that of another one."""
        ...
