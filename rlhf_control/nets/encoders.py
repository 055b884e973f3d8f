"""From observations to what the networks read: the running normaliser, and layers."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Observations to mean 0 and variance 1 by the statistics of all data so far, clipped to +-10.

    The statistics move only when `update` is called: between two iterations, never during a rollout, an update or
    an evaluation. Without any update it is the identity.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, data: np.ndarray) -> None:
        """Takes in rows (..., O), exactly as if all rows ever seen came at once (Chan et al. 1979)."""
        rows = torch.from_numpy(data.reshape(-1, len(self.mean))).double()
        n, mean, var = len(rows), rows.mean(0), rows.var(0, correction=0)
        total = self.count + n
        delta = mean - self.mean
        self.var.copy_((self.var * self.count + var * n + delta**2 * self.count * n / total) / total)
        self.mean += delta * n / total
        self.count += n

    @property
    def limit(self) -> float:
        """Beyond which the normalised observations are clipped."""
        return self.clip if self.count else math.inf

    def mean_and_scale(self) -> tuple[Tensor, Tensor]:
        """(O,) float32 each: what is taken off, and what the rest is multiplied by."""
        if self.count == 0:
            return torch.zeros_like(self.mean).float(), torch.ones_like(self.var).float()
        return self.mean.float(), (self.var + 1e-8).rsqrt().float()

    def forward(self, x: Tensor) -> Tensor:
        if self.count == 0:
            return x
        mean, scale = self.mean_and_scale()
        return ((x - mean) * scale).clamp(-self.clip, self.clip)


def mlp(sizes: Sequence[int], out_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Tanh layers with orthogonal weights (gain sqrt 2, `out_gain` for the last) and zero biases."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        nn.init.orthogonal_(linear.weight, out_gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)
