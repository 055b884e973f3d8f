"""Advantages, returns and the scale of rewards: pure functions. T time, N environments."""

import numpy as np

from rlhf_control.data import Array, Rollout


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


def values_of_another_reward(
    value: Array, next_value: Array, reward: Array, terminated: Array, gamma: float
) -> tuple[float, float]:
    """Returns (a, b) for which a * V + b are the values of this reward, as far as they are in a straight line with
    values V that were learned of another: least-squares temporal differences on V and 1 (Bradtke and Barto, Machine
    Learning 22, 1996, section 5), each in the units of what is given. All arrays are (T, N), `next_value` as for `gae`.

    Of a reward that is the old one times a, plus c, in episodes without end that is a and c / (1 - gamma).
    """
    goes_on = ~terminated.ravel()
    now = np.stack([value.ravel(), np.ones(value.size)], -1).astype(np.float64)  # (T * N, 2)
    after = gamma * goes_on[:, None] * np.stack([next_value.ravel(), np.ones(value.size)], -1)
    a, b = np.linalg.lstsq(now.T @ (now - after), now.T @ reward.ravel().astype(np.float64), rcond=None)[0]
    return float(a), float(b)


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
