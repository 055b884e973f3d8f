"""How many answers each label round asks for.

A schedule takes (labels, rounds) and returns one number a round; they add up to `labels`. To add one, write the weight
of a round at time t, 0 in the first and 1 in the last, and name it in WEIGHTS.
"""

from collections.abc import Callable, Sequence

from rlhf_control.errors import unknown_name

WEIGHTS: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "hyperbolic": lambda t: 1 / (1 + t),  # as in the library `imitation`: the first asks twice as much as the last
    "front-loaded": lambda t: 0.01**t,  # as in rl-teacher (arXiv 1706.03741): a hundred times as much
}


def schedule(name: str, labels: int, rounds: int) -> list[int]:
    """Returns one number for each of `rounds` rounds, which sum to `labels`. Raises UserError for an unknown name."""
    if name not in WEIGHTS:
        raise unknown_name("schedule", name, WEIGHTS)
    return apportion(labels, [WEIGHTS[name](k / max(1, rounds - 1)) for k in range(rounds)])


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Returns whole numbers in proportion to the weights that sum to `total`, by largest remainders, the earlier first
    where these are equal. No number is a whole one away from its exact share."""
    exact = [total * w / sum(weights) for w in weights]
    counts = [int(x) for x in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts
