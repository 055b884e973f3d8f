"""Distributions over actions, in closed form. A action, G choices."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Is a diagonal normal distribution over Box actions."""

    mean: Tensor  # (..., A)
    log_std: Tensor  # (..., A) or (A,)

    def log_prob(self, action: Tensor) -> Tensor:
        """Returns the log-density of `action` (..., A), unclipped: (...,)."""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy, (...,) nats."""
        return (self.log_std + 0.5 + 0.5 * LOG_2PI).expand_as(self.mean).sum(-1)

    def kl(self, other: Any) -> Tensor:
        """Returns KL(self || other), another Gaussian: (...,) nats."""
        var_ratio = torch.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * torch.exp(-other.log_std)).square()
        return 0.5 * (var_ratio + distance - 1 - var_ratio.log()).sum(-1)

    def detached(self) -> "Gaussian":
        """Returns the distribution as it is now, whatever happens to the parameters; a row of log_std for each of the
        mean."""
        return Gaussian(self.mean.detach(), self.log_std.detach().expand_as(self.mean).clone())

    def to(self, device: torch.device) -> "Gaussian":
        return Gaussian(self.mean.to(device), self.log_std.to(device))

    def __getitem__(self, index: Any) -> "Gaussian":
        return Gaussian(self.mean[index], self.log_std if self.log_std.ndim == 1 else self.log_std[index])


@dataclass(frozen=True)
class Categorical:
    """Is a product of independent distributions over one or several choices: Discrete, MultiDiscrete and MultiBinary
    actions."""

    logits: Tensor  # (..., A), log-probabilities up to a constant for each choice; the choices side by side
    sizes: tuple[int, ...]  # (G,) options of each choice; they add up to A

    def log_p(self) -> list[Tensor]:
        """Returns the log-probabilities of every option, choice by choice: (..., size)."""
        return [logits.log_softmax(-1) for logits in self.logits.split(self.sizes, -1)]

    def log_prob(self, action: Tensor) -> Tensor:
        """Returns the log-probability of the integer `action` (..., G): (...,)."""
        taken = action.long()[..., None].unbind(-2)
        return torch.cat([p.gather(-1, a) for p, a in zip(self.log_p(), taken, strict=True)], -1).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy, (...,) nats."""
        return torch.stack([-(p.exp() * p).sum(-1) for p in self.log_p()]).sum(0)

    def kl(self, other: Any) -> Tensor:
        """Returns KL(self || other), another Categorical: (...,) nats."""
        both = zip(self.log_p(), other.log_p(), strict=True)
        return torch.stack([(p.exp() * (p - q)).sum(-1) for p, q in both]).sum(0)

    def detached(self) -> "Categorical":
        return Categorical(self.logits.detach(), self.sizes)

    def to(self, device: torch.device) -> "Categorical":
        return Categorical(self.logits.to(device), self.sizes)

    def __getitem__(self, index: Any) -> "Categorical":
        return Categorical(self.logits[index], self.sizes)
