"""Questions about early ends: a clip that one cuts short, beside a whole one, so that answers tell what an end costs.

S clips, C candidates, L segment length.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_control.data import Array, Query, Segments
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.queries.choose import Pool, disjoint
from rlhf_control.queries.strategies import binary_entropy
from rlhf_control.reward.ends import EndCosts, Judge, preferences, worth

END_SHARE = 0.2  # of a run's questions, as long as the cost is not known
CANDIDATES = 30  # for each question
FEWEST = 2  # steps of a clip


def cut_short(episode: Segments, length: int, rng: np.random.Generator) -> Segments:
    """Returns the last steps (L', ...) of an episode (T, ...) that ended early, a random number of them and fewer than
    a whole clip has."""
    steps = int(rng.integers(FEWEST, min(len(episode.obs), length - 1) + 1))
    return episode[-steps:]


def information(reward: Judge, ends: EndCosts, clips: Segments, items: Array) -> Array:
    """Returns how much, (C,) in nats, the answers to pairs (C, 2) of these clips (S, L, ...) would tell of the cost
    (Houlsby et al., arXiv 1112.5745, equation 2)."""
    p = preferences(worth(reward, clips, ends.length), items, ends.costs, ends.lapse)
    return binary_entropy(ends.belief @ p) - ends.belief @ binary_entropy(p)


def end_questions(
    episodes: Sequence[Segments], source: Pool, n: int, round: int, reward: Judge, ends: EndCosts,
    rng: np.random.Generator,
) -> list[Query]:  # fmt: skip
    """Returns at most n comparisons of the ends of these episodes (T, ...) with whole clips that are free, those whose
    answers would tell most about the cost; no episode and no clip twice. The clips are no longer free."""
    whole = np.flatnonzero(source.free)
    if not n or not len(episodes) or not len(whole) or ends.length <= FEWEST:
        return []
    short = [cut_short(episode, ends.length, rng) for episode in episodes]
    clips = Segments.concatenate([source.clips[whole], Segments.stack(short)])
    of_short = len(whole) + rng.integers(len(short), size=CANDIDATES * n)
    items = np.stack([of_short, rng.integers(len(whole), size=CANDIDATES * n)], 1)
    order = np.argsort(-information(reward, ends, clips, items), kind="stable")
    queries = []
    for pair in disjoint(items[order], n):
        source.free[whole[pair[1]]] = False
        queries.append(Query(round, 0, EARLY_END, clips[rng.permutation(pair)]))
    return queries
