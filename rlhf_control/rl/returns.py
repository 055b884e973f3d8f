"""Advantages, returns and the scale of rewards: pure functions. T time, N environments."""

import numpy as np

from rlhf_control.data import Array, Rollout

LEAST = 1e-3  # of the weight of an unknown in its equation, compared with what it would be without successors
ROUNDING = 1e-9  # of the squares of float32 values


def gae(
    reward: Array, value: Array, next_value: Array, terminated: Array, truncated: Array, gamma: float, lam: float
) -> tuple[Array, Array]:
    """Estimates advantages by GAE (arXiv 1506.02438, eq. 16). All arrays are (T, N).

    `next_value` is V of the true successor, so a truncated episode is bootstrapped with V(final observation) and a
    terminated one with 0; the sum over deltas stops at either. Returns (advantage, return).
    """
    if not reward.shape == value.shape == next_value.shape == terminated.shape == truncated.shape:
        raise ValueError(f"shapes differ: {reward.shape}, {value.shape}, {next_value.shape}, {terminated.shape}")
    delta = reward + gamma * next_value * ~terminated - value
    carry = gamma * lam * ~(terminated | truncated)
    advantage = np.empty_like(delta)
    running = np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = delta[t] + carry[t] * running
        advantage[t] = running
    return advantage, advantage + value


def equations_of_values(
    value: Array, next_value: Array, reward: Array, terminated: Array, truncated: Array, gamma: float, lam: float
) -> tuple[Array, Array]:
    """Returns A (2, 2) and y (2,): where A @ (a, b) = y, the line a * V + b in values V of another reward states this
    reward's, by least-squares temporal differences (LSTD(lambda); Bradtke and Barto, Machine Learning 22, 1996; Boyan,
    ICML 1999). All arrays are (T, N) as for `gae`; those of several rollouts are added.

    In words: fitted to its own lambda-returns, by regression, the line stays where it is. These returns are linear in
    rewards and values, so `gae` of each alone makes up the equations.
    """
    ends = terminated, truncated, gamma, lam
    nothing, one = np.zeros_like(value, np.float64), np.ones_like(value, np.float64)
    of_reward = gae(np.asarray(reward, np.float64), nothing, nothing, *ends)[0]
    of_value = -gae(nothing, np.asarray(value, np.float64), np.asarray(next_value, np.float64), *ends)[0]
    of_one = -gae(nothing, one, one, *ends)[0]
    line = np.stack([np.asarray(value, np.float64).ravel(), one.ravel()])  # (2, T * N)
    return line @ np.stack([of_value.ravel(), of_one.ravel()], -1), line @ of_reward.ravel()


def line_in_values(equations: Array, result: Array, value: Array) -> tuple[float, float]:
    """Returns (a, b) of `equations_of_values` that were added up for these values V. Where they do not tell a, for V
    hardly differs, or grows as fast as the discount shrinks it, a is 1, and where nothing tells b, without discount in
    episodes without end, the line is V itself."""
    (p, q), (r, s) = equations
    spread = np.square(value - value.mean(dtype=np.float64)).sum(dtype=np.float64)
    if not s > LEAST * value.size:
        return 1.0, 0.0
    told = p - q * r / s  # of a, with b taken out of the equations
    plain = spread > ROUNDING * np.square(value, dtype=np.float64).sum() and told > LEAST * spread
    a = (result[0] - q * result[1] / s) / told if plain else 1.0
    return float(a), float((result[1] - r * a) / s)


class RewardScaler:
    """Divides the reward by the running standard deviation of its discounted return, clipped to +-10,
    as Stable-Baselines3's VecNormalize does; here once a rollout, so that one rollout has one scale."""

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.discounted = np.zeros(num_envs)  # (N,) of the running episodes
        self.moments = np.zeros(3)  # count, mean, sum of squared deviations of the discounted returns

    def __call__(self, rollout: Rollout) -> Rollout:
        history = np.empty(rollout.reward.shape)
        for t, (reward, done) in enumerate(zip(rollout.reward, rollout.done, strict=True)):
            self.discounted = self.discounted * self.gamma + reward
            history[t] = self.discounted
            self.discounted[done] = 0
        n, mean, m2 = history.size, history.mean(), history.var() * history.size
        count, old_mean, old_m2 = self.moments
        delta = mean - old_mean
        total = count + n
        self.moments = np.array([total, old_mean + delta * n / total, old_m2 + m2 + delta**2 * count * n / total])
        return self.divided(rollout)

    def divided(self, rollout: Rollout) -> Rollout:
        """Divides the reward by the standard deviation so far."""
        std = np.sqrt(self.moments[2] / self.moments[0] + 1e-8)
        return rollout.with_reward(np.clip(rollout.reward / std, -10, 10))

    def with_moments(self, moments: Array) -> "RewardScaler":
        """Returns a scaler of new episodes that goes on with these moments."""
        other = RewardScaler(len(self.discounted), self.gamma)
        other.moments = moments.copy()
        return other

    def state(self) -> dict[str, Array]:
        return {"discounted": self.discounted.copy(), "moments": self.moments.copy()}

    def load_state(self, state: dict[str, Array]) -> None:
        self.discounted, self.moments = state["discounted"].copy(), state["moments"].copy()
