"""A rollout as an update reads it, and its minibatches. B batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.data import Array
from rlhf_control.nets.distributions import Categorical, Gaussian


@dataclass(frozen=True)
class Batch:
    """Holds what an update reads, (B, ...). `old` is the policy that collected it."""

    features: Tensor  # (B, O) normalised observations
    action: Tensor  # (B, A) or (B,): as sampled
    advantage: Tensor  # (B,)
    returns: Tensor  # (B,)
    old: Gaussian | Categorical
    old_log_prob: Tensor  # (B,)

    def __len__(self) -> int:
        return len(self.advantage)

    def to(self, device: torch.device) -> "Batch":
        """Returns the same batch on this device."""
        return Batch(*(x.to(device) for x in vars(self).values()))

    def __getitem__(self, rows: Any) -> "Batch":
        rows = torch.as_tensor(rows)
        features = self.features.index_select(0, rows)  # of bytes, indexing takes nine times as long
        return Batch(features, *(x[rows] for name, x in vars(self).items() if name != "features"))


def minibatches(rows: int, size: int, rng: np.random.Generator, together: Array | None = None) -> list[Array]:
    """Draws the order of an epoch's steps, each as indices of its rows: every row once, at random. A single row left
    over joins the last minibatch: the standard deviation of one advantage is NaN. Rows of one number in `together`
    (rows,) stand behind each other, so that nearly all of them fall into one minibatch."""
    starts = list(range(size, rows, size))
    if starts and rows - starts[-1] == 1:
        starts.pop()
    order = rng.permutation(rows)
    if together is not None:
        order = order[np.argsort(rng.permutation(together.max() + 1)[together[order]], kind="stable")]
    return np.split(order, starts)
