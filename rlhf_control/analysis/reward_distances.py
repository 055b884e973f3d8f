"""How right a reward is: pure functions of arrays.

Nothing here is about one number alone. Held-out accuracy is necessary and not sufficient (Tien et al., arXiv
2204.06601: 52,326 pairs, high accuracy, and the policy still hacked it); the distances say how rewards differ as
objectives; the trivial rewards say how much of it any reward would have had.

n transitions, m samples of the canonicalisation, B bins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rlhf_control.data import Array, Segments

RewardFunction = Callable[[Segments], Array]  # (..., O) -> (...,): a function of obs, action, next_obs (and state)


# -- correlation and accuracy


def pearson(x: Array, y: Array) -> float:
    """Returns the linear correlation of all elements; NaN if either does not vary."""
    x, y = (np.asarray(v, np.float64).ravel() for v in (x, y))
    dx, dy = x - x.mean(), y - y.mean()
    spread_x, spread_y = np.linalg.norm(dx), np.linalg.norm(dy)
    if not (spread_x > 1e-12 * np.linalg.norm(x) and spread_y > 1e-12 * np.linalg.norm(y)):
        return float("nan")
    return float(np.clip((dx / spread_x) @ (dy / spread_y), -1, 1))


def average_ranks(x: Array) -> Array:
    """Returns ranks (n,) from 1; equal numbers share the mean of theirs."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: Array, y: Array) -> float:
    """Returns the correlation of the ranks: 1 under any increasing transformation; NaN if either does not vary."""
    return pearson(average_ranks(np.ravel(x)), average_ranks(np.ravel(y)))


def pair_accuracy(predicted: Array, true: Array) -> float:
    """Returns the share of the pairs with a clear true difference (n,) whose predicted difference has its sign. A
    predicted difference of 0 counts as half. NaN if no pair is clear."""
    clear = true != 0
    right = 0.5 + 0.5 * np.sign(predicted[clear]) * np.sign(true[clear])
    return float(right.mean()) if clear.any() else float("nan")


# -- distances between rewards


def pearson_distance(x: Array, y: Array) -> float:
    """Returns sqrt((1 - correlation) / 2), in [0, 1]: 0 for positive multiples (up to a constant), 1 for negative ones.
    NaN if either does not vary."""
    return float(np.sqrt((1 - pearson(x, y)) / 2))


def _mixed(points: Segments, actions: Array, next_obs: Array) -> Segments:
    """Transitions (n, m) put together from the observations of `points` (n,) and actions and successors (m,). They were
    never made, so there is no reward of the environment's: NaN."""
    n, m = len(points), len(actions)

    def spread(array: Array, axis: int) -> Array:
        return np.broadcast_to(np.expand_dims(array, axis), (n, m, array.shape[-1]))

    state = None if points.state is None else spread(points.state, 1)
    return Segments(spread(points.obs, 1), spread(actions, 0), spread(next_obs, 0), np.full((n, m), np.nan), state)


def epic_canonical(
    reward: RewardFunction, transitions: Segments, successors: Segments, coverage: Segments, gamma: float
) -> Array:
    """Returns the canonically shaped reward (n,) (Gleave et al., arXiv 2006.13900, definition 4.1):

        C(R)(s, a, s') = R(s, a, s') + E[gamma R(s', A, S') - R(s, A, S') - gamma R(S, A, S')]

    with S, A and S' independent, estimated on the same samples for every reward: S and S' from the observations and A
    from the actions of `coverage` (m,). `transitions` (n,) are (s, a, s'), and `successors` (n,) hold s' as `obs` with
    its simulator state. Rewards equal up to potential shaping and a positive factor have canonical rewards equal up to
    that factor and a constant, exactly, on any samples.
    """
    action = coverage.action[::-1]  # apart from the S' they came with
    here = reward(_mixed(transitions, action, coverage.obs)).mean(1)
    there = reward(_mixed(successors, action, coverage.obs)).mean(1)
    anywhere = reward(_mixed(coverage, action, coverage.obs)).mean()
    return reward(transitions) + gamma * there - here - gamma * anywhere


def dard_canonical(
    reward: RewardFunction, transitions: Segments, here: Segments, there: Segments, between: Segments, gamma: float
) -> Array:
    """Returns the reward under the dynamics-aware transformation (n,) (Wulfe et al., arXiv 2201.10081, definition 5):

        C_T(R)(s, a, s') = R(s, a, s') + E[gamma R(s', A, S'') - R(s, A, S') - gamma R(S', A, S'')]

    with S' ~ T(s, A) and S'' ~ T(s', A). For the `transitions` (n,), `here` (n, m) are samples of (s, A, S'), `there`
    (n, m) of (s', A, S'') and `between` (n, m) the (S', A, S'') of both. Unlike EPIC's, all of these happen, or nearly:
    S' and S'' are one and two steps from s. Invariant to potential shaping, exactly, on any samples.
    """
    expected = gamma * reward(there) - reward(here) - gamma * reward(between)
    return reward(transitions) + expected.mean(1)


# -- over-optimisation


def overoptimisation(rows: Sequence[Mapping[str, Any]], true: str) -> dict[str, list[Any]]:
    """Returns curves over environment steps from the rows of metrics.jsonl: the learned reward, the metric named
    `true`, the KL from the start and its square root, against which Gao et al. (arXiv 2210.10760) find the true reward
    to rise and then to fall while the learned one still rises. Missing values are None."""
    columns = {"env_steps": "env_steps", "learned": "reward_mean", "true": true, "kl": "kl_start"}
    curves = {name: [row.get(key) for row in rows] for name, key in columns.items()}
    curves["sqrt_kl"] = [None if kl is None else float(np.sqrt(max(kl, 0.0))) for kl in curves["kl"]]
    return curves


def lost_since_peak(steps: Sequence[float], true: Sequence[float | None]) -> dict[str, float | None]:
    """Tells where the true reward was highest and how much of its gain is gone at the end: 0 at the peak, 1 back at the
    start. Averages of five rows are compared, so that noise makes no peak; all None with fewer rows."""
    kept = [(step, value) for step, value in zip(steps, true, strict=True) if value is not None]
    if len(kept) < 5:
        return {"peak_step": None, "lost": None}
    x, y = np.array(kept, np.float64).T
    smooth = np.convolve(y, np.ones(5) / 5, "valid")
    peak = int(np.argmax(smooth))
    gain = smooth[peak] - smooth[0]
    return {"peak_step": float(x[peak + 2]), "lost": float((smooth[peak] - smooth[-1]) / gain) if gain > 0 else None}


# -- trivial rewards, against which a learned one is held


def constant(steps: Segments) -> Array:
    """Returns 0 everywhere, (..., L): no opinion."""
    return np.zeros(steps.action.shape[:-1], np.float32)


def alive(steps: Segments) -> Array:
    """Returns 1 a step, (..., L): the return of an episode is its length. What it gets right, the length has leaked."""
    return np.ones(steps.action.shape[:-1], np.float32)


def small_actions(steps: Segments) -> Array:
    """Returns minus the squared norm of the action, (..., L): laziness."""
    return -np.square(steps.action).sum(-1)


BASELINES: dict[str, RewardFunction] = {"constant": constant, "alive": alive, "action norm": small_actions}
