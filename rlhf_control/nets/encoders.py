"""Encoders: from packed observations to what the networks read. The only file that unpacks them.

Numbers are normalised by their running statistics; each picture goes through a convolutional network; the results stand
side by side. B batch, O observation as packed, V its numbers, F features.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.compute.threads import side_by_side
from rlhf_control.nets.layers import unset
from rlhf_control.nets.pictures import PictureEncoder, Sight, check_pictures
from rlhf_control.spaces import Part, numbers_of, parts_from_state

ACTIVATIONS: dict[str, type[nn.Module]] = {  # the names of `NetConfig.activation`
    "tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "leaky-relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "selu": nn.SELU, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "identity": nn.Identity,
}  # fmt: skip
ROWS = 256  # that are encoded at a time without gradients: activations of pictures take memory
FEW = 16  # that are not worth a second thread


class RunningNorm(nn.Module):
    """Brings observations to mean 0 and variance 1 by the statistics of all data so far, clipped to +-10.

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
        """Returns the number beyond which normalised observations are clipped."""
        return self.clip if self.count else math.inf

    def mean_and_scale(self) -> tuple[Tensor, Tensor]:
        """Returns what is taken off and what the rest is multiplied by, (O,) float32 each."""
        if self.count == 0:
            return torch.zeros_like(self.mean).float(), torch.ones_like(self.var).float()
        return self.mean.float(), (self.var + 1e-8).rsqrt().float()

    def forward(self, x: Tensor) -> Tensor:
        if self.count == 0:
            return x
        mean, scale = self.mean_and_scale()
        return ((x - mean) * scale).clamp(-self.clip, self.clip)


def mlp(
    sizes: Sequence[int], out_gain: float | None, generator: torch.Generator, activation: str = "tanh"
) -> nn.Sequential:
    """Makes tanh layers with orthogonal weights (gain sqrt 2, `out_gain` for the last) and zero biases."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2 and out_gain is not None
        linear = unset(nn.Linear(n_in, n_out, device="meta"))
        gain = out_gain if last and out_gain is not None else math.sqrt(2)
        nn.init.orthogonal_(linear.weight, gain, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Reads observations of these parts: pictures by a network each, all else as numbers, or all of it as numbers."""

    def __init__(
        self, parts: tuple[Part, ...], generator: torch.Generator | None, sight: Sight, clip: float = 10.0
    ) -> None:
        """Without a `generator` the weights are not initialised."""
        super().__init__()
        self.parts = parts
        self.seen = () if sight.kind == "flat" else tuple(part for part in parts if part.picture)
        self.sight = sight if self.seen else replace(sight, kind="flat")
        self.counted = tuple(part for part in parts if part not in self.seen)
        self.norm = RunningNorm(sum(math.prod(part.shape) for part in self.counted), clip)
        self.pictures = nn.ModuleList(PictureEncoder(part.shape, sight, generator) for part in self.seen)

    @property
    def device(self) -> torch.device:
        """Returns where pictures are seen. Numbers are always prepared by the processor."""
        return next((parameter.device for parameter in self.pictures.parameters()), self.norm.mean.device)

    def to_device(self, device: torch.device) -> "Encoder":
        """Moves what sees pictures there; returns itself."""
        self.pictures.to(device)
        return self

    @property
    def size(self) -> int:
        """Returns the number F of features."""
        return Encoder.size_of(self.parts, self.sight)

    @staticmethod
    def size_of(parts: Sequence[Part], sight: Sight) -> int:
        """Return the `size` of the encoder of these parts, without making it."""
        seen = [part.picture and sight.kind != "flat" for part in parts]
        return sum(
            sight.features if is_seen else math.prod(part.shape) for part, is_seen in zip(parts, seen, strict=True)
        )

    def numbers(self, packed: np.ndarray) -> np.ndarray:
        """Returns the numbers of packed observations (..., O), raw: (..., V) float32."""
        return numbers_of(self.counted, packed)

    def prepare(self, packed: np.ndarray) -> Tensor:
        """Returns what no gradient changes of packed observations (..., O): the normalised numbers (..., V). If there
        are pictures, their bytes as they are stand behind, in one tensor of bytes. `forward` reads it."""
        packed = np.require(packed, requirements="W")  # clips from files are not; torch knows no other tensors
        numbers = self.norm(torch.from_numpy(self.numbers(packed)))
        if not self.seen:
            return numbers
        parts = [torch.from_numpy(part.read(packed).reshape(*packed.shape[:-1], -1)) for part in self.seen]
        if self.counted:
            parts.insert(0, numbers.contiguous().view(torch.uint8))
        return torch.cat(parts, -1)

    def forward(self, prepared: Tensor) -> Tensor:
        """Returns the features (..., F) of what `prepare` gave, on this encoder's device."""
        if not self.seen:
            return prepared
        lead, rows = prepared.shape[:-1], prepared.flatten(0, -2).to(self.device)
        sizes = [math.prod(part.shape) for part in self.seen]
        numbers, *pixels = rows.split([rows.shape[-1] - sum(sizes), *sizes], -1)
        features = [network(own) for network, own in zip(self.pictures, pixels, strict=True)]
        if self.counted:
            features.insert(0, numbers.contiguous().view(torch.float32))
        return torch.cat(features, -1).reshape(*lead, -1)

    @torch.no_grad()
    def without_gradients(self, prepared: Tensor) -> Tensor:
        """Does the same as `forward` without gradients, for as many rows as there may be."""
        if not self.seen:
            return prepared
        rows = prepared.flatten(0, -2)
        size = min(ROWS, max(FEW, -(-len(rows) // 2)))
        return torch.cat(side_by_side(torch.no_grad()(self), rows.split(size))).reshape(*prepared.shape[:-1], -1)

    def arranged(self, prepared: Tensor) -> Tensor:
        """Returns what `prepare` gave (..., O) as `forward` reads it fastest, for what is read many times."""
        if len(self.seen) != 1 or self.counted or self.device.type != "cpu":
            return prepared
        return self.pictures[0].arranged(prepared.flatten(0, -2)).reshape(*prepared.shape[:-1], -1)  # type: ignore[operator]

    def made_ready(self) -> "Encoder":
        """Returns a copy that no longer changes, to be called many times without gradients."""
        copy = deepcopy(self).requires_grad_(False)
        for network in copy.pictures:
            network.make_ready()  # type: ignore[operator]
        return copy

    def frozen(self) -> "Encoder":
        """Return a copy that no longer changes."""
        return Encoder.from_state(self.state())

    def state(self) -> dict[str, Any]:
        """Return all of it, as arrays and plain values."""
        parts = [{**vars(part), "shape": list(part.shape)} for part in self.parts]
        parameters = {name: tensor.cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        sight = {"kind": self.sight.kind, "picture_features": self.sight.features, "precision": self.sight.precision}
        return {"parts": parts, "parameters": parameters, "clip": self.norm.clip, **sight}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Encoder":
        """Make a copy that no longer changes, from what `state` gave. Raises KeyError or ValueError for another."""
        parts, sight = parts_from_state(state["parts"]), Sight.from_state(state)
        check_pictures(parts, state["parameters"], sight)
        encoder = cls(parts, None, sight, float(state.get("clip", 10.0)))  # older files know no other
        encoder.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state["parameters"].items()})
        return encoder.requires_grad_(False)
