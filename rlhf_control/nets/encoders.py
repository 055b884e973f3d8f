"""Encoders: from packed observations to what the networks read. The only file that unpacks them.

Numbers are normalised by their running statistics; each picture goes through a convolutional network; the results stand
side by side. B batch, O observation as packed, V its numbers, F features.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.spaces import Part, numbers_of, parts_from_state

NATURE_SIDE = 36  # the least side that its three strides leave something of
PICTURE_FEATURES = 512
ACTIVATIONS: dict[str, type[nn.Module]] = {  # the names of `NetConfig.activation`
    "tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "leaky-relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "selu": nn.SELU, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "identity": nn.Identity,
}  # fmt: skip
ROWS = 256  # that are encoded at a time without gradients: activations of pictures take memory


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
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        gain = out_gain if last and out_gain is not None else math.sqrt(2)
        nn.init.orthogonal_(linear.weight, gain, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class PictureEncoder(nn.Sequential):
    """Encodes pictures: the convolutional network of Mnih et al. (Nature 2015), as Stable-Baselines3 has it too, or,
    for sides below 36, two layers of 3x3; then a linear layer to 512 features (or as many as are asked for)."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator, features: int = PICTURE_FEATURES) -> None:
        """For pictures of (height, width, channels), (channels, height, width) or (height, width)."""
        kernels, flat = layout(shape)
        layers: list[nn.Module] = []
        for kernel in kernels:
            layers += [orthogonal(nn.utils.skip_init(nn.Conv2d, *kernel), generator), nn.ReLU()]
        last = nn.utils.skip_init(nn.Linear, flat, features)
        layers += [nn.Flatten(), orthogonal(last, generator), nn.ReLU()]
        super().__init__(*layers)
        self.shape = shape if len(shape) == 3 else (*shape, 1)
        self.channels_first = channels_first(self.shape)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features (B, 512) of pixels (B, prod(shape)) uint8."""
        x = pixels.reshape(-1, *self.shape)
        x = x if self.channels_first else x.permute(0, 3, 1, 2)  # in memory as they were: channels last
        return super().forward(x.float() / 255)


class Encoder(nn.Module):
    """Reads observations of these parts: pictures by a network each, all else as numbers, or all of it as numbers."""

    def __init__(
        self, parts: tuple[Part, ...], generator: torch.Generator, *, flat: bool = False, clip: float = 10.0,
        picture_features: int = PICTURE_FEATURES,
    ) -> None:  # fmt: skip
        super().__init__()
        self.parts, self.picture_features = parts, picture_features
        self.seen = () if flat else tuple(part for part in parts if part.picture)
        self.counted = tuple(part for part in parts if part not in self.seen)
        self.norm = RunningNorm(sum(math.prod(part.shape) for part in self.counted), clip)
        self.pictures = nn.ModuleList(PictureEncoder(part.shape, generator, picture_features) for part in self.seen)

    @property
    def kind(self) -> Literal["cnn", "flat"]:
        """Names the `NetConfig.encoder` that makes one like this."""
        return "cnn" if self.seen else "flat"

    @property
    def size(self) -> int:
        """Returns the number F of features."""
        return len(self.norm.mean) + self.picture_features * len(self.seen)

    @staticmethod
    def size_of(parts: Sequence[Part], *, flat: bool, picture_features: int = PICTURE_FEATURES) -> int:
        """Return the `size` of the encoder of these parts, without making it."""
        return sum(picture_features if part.picture and not flat else math.prod(part.shape) for part in parts)

    def numbers(self, packed: np.ndarray) -> np.ndarray:
        """Returns the numbers of packed observations (..., O), raw: (..., V) float32."""
        return numbers_of(self.counted, packed)

    def prepare(self, packed: np.ndarray) -> Tensor:
        """Returns what no gradient changes of packed observations (..., O): the normalised numbers (..., V). If there
        are pictures, their bytes as they are stand behind, in one tensor of bytes. `forward` reads it."""
        numbers = self.norm(torch.from_numpy(self.numbers(packed)))
        if not self.seen:
            return numbers
        parts = [torch.from_numpy(part.read(packed).reshape(*packed.shape[:-1], -1)) for part in self.seen]
        if self.counted:
            parts.insert(0, numbers.contiguous().view(torch.uint8))
        return torch.cat(parts, -1)

    def forward(self, prepared: Tensor) -> Tensor:
        """Returns the features (..., F) of what `prepare` gave."""
        if not self.seen:
            return prepared
        lead, rows = prepared.shape[:-1], prepared.flatten(0, -2)
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
        return torch.cat([self(some) for some in rows.split(ROWS)]).reshape(*prepared.shape[:-1], -1)

    def frozen(self) -> "Encoder":
        """Return a copy that no longer changes."""
        return Encoder.from_state(self.state())

    def state(self) -> dict[str, Any]:
        """Return all of it, as arrays and plain values."""
        parts = [{**vars(part), "shape": list(part.shape)} for part in self.parts]
        parameters = {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}
        facts = {"flat": not self.seen, "clip": self.norm.clip, "picture_features": self.picture_features}
        return {"parts": parts, "parameters": parameters, **facts}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Encoder":
        """Make a copy that no longer changes, from what `state` gave. Raises KeyError or ValueError for another."""
        parts, features = parts_from_state(state["parts"]), int(state.get("picture_features", PICTURE_FEATURES))
        check_pictures(parts, state["parameters"], flat=state["flat"], picture_features=features)
        clip = float(state.get("clip", 10.0))  # older files know no other
        encoder = cls(parts, torch.Generator(), flat=state["flat"], clip=clip, picture_features=features)
        encoder.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state["parameters"].items()})
        return encoder.requires_grad_(False)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Say whether a picture of three dimensions has its channels, of which there are fewest, before its sides."""
    return shape[0] < shape[-1]


def layout(shape: tuple[int, ...]) -> tuple[list[tuple[int, int, int, int]], int]:
    """Return the convolutions for pictures of this shape, each (channels in, out, kernel, stride), and the number of
    values that the last of them puts out."""
    shape = shape if len(shape) == 3 else (*shape, 1)
    channels, *sides = shape if channels_first(shape) else (shape[-1], *shape[:-1])
    if min(sides) >= NATURE_SIDE:
        kernels = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
    else:
        kernels = [(channels, 32, 3, 1), (32, 64, 3, 2)]
    for _, _, kernel, stride in kernels:
        sides = [(side - kernel) // stride + 1 for side in sides]
    return kernels, kernels[-1][1] * math.prod(sides)


def check_pictures(
    parts: Sequence[Part], parameters: Mapping[str, Any], *, flat: bool, prefix: str = "",
    picture_features: int = PICTURE_FEATURES,
) -> None:  # fmt: skip
    """Raise ValueError unless the widest weights of each picture's network are there, each as large as `layout` says:
    a network is made only of what a file has, however much it claims."""
    for i, part in enumerate(() if flat else [part for part in parts if part.picture]):
        kernels, values = layout(part.shape)
        name = f"{prefix}pictures.{i}.{2 * len(kernels) + 1}.weight"
        if tuple(parameters[name].shape) != (picture_features, values):
            raise ValueError(f"{name} is {tuple(parameters[name].shape)}, not {(picture_features, values)}")


def orthogonal(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> nn.Module:
    """Return the layer with orthogonal weights (gain sqrt 2) and zero biases."""
    assert layer.bias is not None
    nn.init.orthogonal_(layer.weight, math.sqrt(2), generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
