"""Questions about early ends: a clip that one cuts short, beside a whole one, so that answers tell what an end costs.

S clips, C candidates, L segment length.
"""

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from rlhf_control.data import Array, Query, Segments
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.queries.choose import Pool, disjoint
from rlhf_control.queries.strategies import binary_entropy
from rlhf_control.reward.ends import EndCosts, Judge, preferences, worth
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.protocol import Reward

END_SHARE = 0.3  # of the comparisons, as long as the cost is not known
KNOWN = 0.15  # spread of the belief's logarithm, from which on nothing more is asked
CANDIDATES = 30  # for each question
FEWEST = 2  # steps of a clip


def asks_about_ends(reward: Reward) -> TypeGuard[RewardModel]:
    """Tells whether answers are still to tell what an early end costs."""
    return isinstance(reward, RewardModel) and reward.ends is not None and reward.ends.spread >= KNOWN


def cut_short(episode: Segments, length: int, rng: np.random.Generator) -> Segments:
    """Returns the last steps (L', ...) of an episode (T, ...) that ended early, a random number of them and fewer than
    a whole clip has."""
    steps = int(rng.integers(FEWEST, min(len(episode), length - 1) + 1))
    return episode[-steps:]


def to_be_seen(clip: Segments) -> bool:
    """Tells whether there is anything to be seen of a clip: pictures are not taken at every step."""
    return clip.frames is None or bool((clip.frames != b"").any())


def information(reward: Judge, ends: EndCosts, clips: Segments, items: Array) -> Array:
    """Returns how much, (C,) in nats, the answers to pairs (C, 2) of these clips (S, L, ...) would tell of the cost
    (Houlsby et al., arXiv 1112.5745, equation 2)."""
    p = preferences(worth(reward, clips, ends.length), items, ends.costs, ends.lapse)
    return binary_entropy(ends.belief @ p) - ends.belief @ binary_entropy(p)


def end_questions(
    episodes: Sequence[Segments], source: Pool, n: int, round: int, reward: Judge, rng: np.random.Generator
) -> list[Query]:
    """Returns at most n comparisons of the ends of these episodes (T, ...) with whole clips that are free, those whose
    answers would tell most about the cost; no episode and no clip twice. The clips are no longer free."""
    free, ends = np.flatnonzero(source.free), reward.ends
    if ends is None or not n or not len(free) or ends.length <= FEWEST:
        return []
    short = [clip for clip in (cut_short(episode, ends.length, rng) for episode in episodes) if to_be_seen(clip)]
    if not short:
        return []
    whole = rng.permutation(free)[: CANDIDATES * n]
    clips = Segments.concatenate([source.clips[whole], Segments.stack(short)])
    of_short = len(whole) + rng.integers(len(short), size=CANDIDATES * n)
    items = np.stack([of_short, rng.integers(len(whole), size=CANDIDATES * n)], 1)
    order = np.argsort(-information(reward, ends, clips, items), kind="stable")
    queries = []
    for pair in disjoint(items[order], n):
        source.free[whole[pair[1]]] = False
        queries.append(Query(round, 0, EARLY_END, clips[rng.permutation(pair)]))
    return queries
