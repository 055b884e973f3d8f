"""Which clips to ask about: plain functions.

A strategy takes (pool, n, reward model, rng) and returns (n, 2) indices into the pool (S, L, ...), no clip twice.
To add one, write the function and name it in STRATEGIES.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rlhf_control.data import Array, Query, Segments
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.reward import Reward

CANDIDATES = 10  # pairs looked at for each one asked
# Of every round, this share is drawn uniformly: to measure accuracy on, unbiased for the pool, and against blind spots
RANDOM_SHARE = 0.4


def uniform(pool: Segments, n: int, model: Reward, rng: np.random.Generator) -> Array:
    """Random pairs."""
    return rng.permutation(len(pool))[: 2 * n].reshape(n, 2)


def disagreement(pool: Segments, n: int, model: Reward, rng: np.random.Generator) -> Array:
    """The random pairs on which the members' probabilities differ most (arXiv 1706.03741, section 2.2.4)."""
    pairs = uniform(pool, min(CANDIDATES * n, len(pool) // 2), model, rng)
    spread = model.probability(pool[pairs]).std(0)
    return pairs[np.argsort(-spread, kind="stable")[:n]]


Strategy = Callable[[Segments, int, Any, np.random.Generator], Array]
STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "disagreement": disagreement,
}


def choose(strategy: str, pool: Segments, n: int, round: int, model: Reward, rng: np.random.Generator) -> list[Query]:
    """n queries for a label round: RANDOM_SHARE of them uniform, the rest by the strategy. All uniform while there is
    no reward model. Which clip stands first is random, so sides carry no information."""
    find_strategy(strategy)
    if len(pool) < 2 * n:
        raise UserError(
            f"{n} queries need {2 * n} clips, the pool has {len(pool)}; raise --ppo.num-steps or --ppo.num-envs, "
            "or shorten --clip-seconds"
        )
    chosen = 0 if strategy == "uniform" or not model.fitted else round_half_up((1 - RANDOM_SHARE) * n)
    order = rng.permutation(len(pool))
    split = len(pool) * chosen // n
    parts = []
    for name, count, part in ((strategy, chosen, order[:split]), ("uniform", n - chosen, order[split:])):
        if count:
            pairs = part[STRATEGIES[name](pool[part], count, model, rng)]
            parts += [(name, rng.permutation(pair)) for pair in pairs]
    return [Query(round, index, name, pool[pair]) for index, (name, pair) in enumerate(parts)]


def find_strategy(name: str) -> Strategy:
    """Raises UserError for an unknown name."""
    if name not in STRATEGIES:
        raise unknown_name("query strategy", name, STRATEGIES)
    return STRATEGIES[name]


def round_half_up(x: float) -> int:
    return int(np.floor(x + 0.5))
