"""What a reward that is told to look at parts of an observation does not see of it.

B batch, I inputs, U numbers that are not seen, M support.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.data import Array
from rlhf_control.nets.policy import check_weights
from rlhf_control.reward.ensemble import nearest_distance

USUAL = 0.95  # of new steps like the data, the share that is no novelty
MIN_STD, MIN_DISTANCE = 1e-3, 1e-3


def usual_distance(rows: Tensor, support: Tensor) -> float:
    """Returns the distance from the support (M, I) that most of these new rows (B, I) like it do not exceed."""
    return max(float(nearest_distance(rows, support).quantile(USUAL)), MIN_DISTANCE)


def novelty_of(rows: Tensor, support: Tensor, usual: float) -> Tensor:
    """Returns the logarithm of the distance (...,) of rows (..., I) to the nearest of the support (M, I), in units of
    the usual one; 0 up to there."""
    distance = nearest_distance(rows.flatten(0, -2), support).reshape(rows.shape[:-1])
    return (distance / usual).clamp(min=1).log()


class Unseen:
    """Tells whether what the reward does not see is as it was when the answers were given. Of that it cannot say
    whether it is good: what people vote on, they see whole."""

    def __init__(self, columns: Sequence[int]) -> None:
        self.columns = np.array(columns, np.int64)  # of an observation
        self.mean, self.std = torch.zeros(len(columns)), torch.ones(len(columns))
        self.support, self.usual = torch.zeros(1, len(columns)), float("inf")

    def rows(self, obs: Array) -> Tensor:
        """Returns what is not seen (..., U) of observations (..., O)."""
        return torch.from_numpy(obs[..., self.columns].astype(np.float32))

    def fit(self, rows: Tensor, some: Tensor) -> None:
        """Takes these rows (B, U) as the data, and `some` (M,) of them to stand for it."""
        self.mean, self.std = rows.mean(0), rows.std(0).clamp(min=MIN_STD)
        self.support, fresh = ((rows[some] - self.mean) / self.std).tensor_split(2)
        self.usual = usual_distance(fresh, self.support)

    def novelty(self, rows: Tensor) -> Tensor:
        """Returns how far rows (..., U) are from the data, as `novelty_of`."""
        return novelty_of((rows - self.mean) / self.std, self.support, self.usual)

    # -- files

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name).numpy().copy() for name in ("mean", "std", "support")} | {"usual": self.usual}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises KeyError or ValueError for the state of another."""
        arrays = {name: torch.from_numpy(state[name].copy()) for name in ("mean", "std", "support")}
        numbers, usual = len(self.columns), float(state["usual"])
        shapes = {name: array.shape if name != "support" else array.shape[1:] for name, array in arrays.items()}
        if any(shape != (numbers,) for shape in shapes.values()) or not len(arrays["support"]):
            raise ValueError(f"the state is not of the {numbers} numbers that are not seen")
        check_weights(arrays)
        if not (usual > 0 and (arrays["std"] > 0).all()):
            raise ValueError("a distance or a deviation is not positive")
        self.mean, self.std, self.support, self.usual = arrays["mean"], arrays["std"], arrays["support"], usual
