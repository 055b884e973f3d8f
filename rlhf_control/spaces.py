"""What an environment shows and takes: enough to build networks for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import gymnasium
import numpy as np

from rlhf_control.errors import UserError

Act = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]  # (B, ...), rng (None: the mode) -> actions


@dataclass(frozen=True)
class Spaces:
    """What a policy reads and does: enough to build its networks and to refuse another environment."""

    obs_shape: tuple[int, ...]
    action_kind: str  # "box" or "discrete"
    action_shape: tuple[int, ...]  # of a Box; else the options of each choice: (n,) for Discrete(n)
    low: tuple[float, ...] = ()  # a Box's bounds, flat
    high: tuple[float, ...] = ()

    @classmethod
    def of(cls, observation: gymnasium.Space, action: gymnasium.Space) -> "Spaces":
        """Raises UserError for spaces other than Box observations and Box, Discrete, MultiDiscrete (a choice each) or
        MultiBinary (a choice of two for each place) actions."""
        if not isinstance(observation, gymnasium.spaces.Box):
            raise UserError(f"observation space {observation} is not supported; it must flatten to a Box")
        if not math.prod(observation.shape):
            raise UserError(
                f"observation space {observation} is not supported: it is empty; give the policy something to see"
            )
        match action:
            case gymnasium.spaces.Box():
                if not np.can_cast(np.float32, action.dtype):  # what the space's own `contains` asks
                    raise UserError(
                        f"action space {action} is not supported: actions are float32; make it a Box of floats, or "
                        "MultiDiscrete if only whole numbers will do"
                    )
                low, high = (tuple(bound.ravel().tolist()) for bound in (action.low, action.high))
                return cls(observation.shape, "box", action.shape, low, high)
            case gymnasium.spaces.Discrete():
                return cls(observation.shape, "discrete", (int(action.n),))
            case gymnasium.spaces.MultiDiscrete():
                return cls(observation.shape, "discrete", tuple(action.nvec.ravel().tolist()))
            case gymnasium.spaces.MultiBinary():
                return cls(observation.shape, "discrete", (2,) * math.prod(action.shape))
        raise UserError(f"action space {action} is not supported; it must be Box or made of discrete choices")

    @property
    def obs_size(self) -> int:
        return math.prod(self.obs_shape)

    @property
    def action_size(self) -> int:
        """A: numbers in a Box, or options of all choices."""
        return sum(self.choices) if self.choices else math.prod(self.action_shape)

    @property
    def choices(self) -> tuple[int, ...]:
        """Options of each discrete choice; () for a Box."""
        return self.action_shape if self.action_kind == "discrete" else ()

    def execute(self, action: np.ndarray) -> np.ndarray:
        """(B, A) float32: the sampled action (B, A) or choices (B, G) as the environment carries it out: clipped to a
        Box's bounds (as Stable-Baselines3 does), one-hot for each choice."""
        if self.choices:
            hot = [np.eye(n, dtype=np.float32)[action[:, i]] for i, n in enumerate(self.choices)]
            return np.concatenate(hot, -1)
        return action.clip(*float32_bounds(self.low, self.high))

    def chosen(self, executed: np.ndarray) -> np.ndarray:
        """What was sampled, (B, A) or choices (B, G), of an action as carried out (B, A), as far as it can be known."""
        if not self.choices:
            return executed
        return np.stack([hot.argmax(-1) for hot in np.split(executed, np.cumsum(self.choices)[:-1], -1)], -1)

    def __str__(self) -> str:
        action = f"choices of {self.choices}" if self.choices else f"Box{self.action_shape}"
        return f"observations Box{self.obs_shape}, actions {action}"


@lru_cache
def float32_bounds(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(A,) float32 each, not beyond the bounds: the nearest number to -0.1 lies below it."""
    ends = []
    for bound, inward in ((low, np.inf), (high, -np.inf)):
        exact = np.array(bound, np.float64)
        nearest = exact.astype(np.float32)
        beyond = nearest < exact if inward > 0 else nearest > exact
        ends.append(np.where(beyond, np.nextafter(nearest, np.float32(inward)), nearest))
    return ends[0], ends[1]
