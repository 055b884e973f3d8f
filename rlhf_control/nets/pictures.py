"""Networks that look at pictures. B batch, F features."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlhf_control.config import NetConfig
from rlhf_control.nets.layers import unset
from rlhf_control.spaces import Part

NATURE_SIDE, SMALL_SIDE, CHRISTIANO_SIDE = 36, 20, 43  # the least sides that their strides leave something of
IMPALA = (16, 32, 32)  # channels of its sections
PICTURE_FEATURES = 512
Convolution = tuple[int, int, int, int]  # channels in, out, kernel, stride


@dataclass(frozen=True)
class Sight:
    """Says how pictures are looked at; see `NetConfig`."""

    kind: str = "cnn"  # flat, cnn, cnn-small, impala or christiano; transformer of tokens
    features: int = PICTURE_FEATURES
    precision: str = "float32"  # or bfloat16

    @staticmethod
    def of(net: NetConfig) -> "Sight":
        """Returns what these options say; auto is the CNN of Nature."""
        return Sight("cnn" if net.encoder == "auto" else net.encoder, net.picture_features, net.precision)

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "Sight":
        """Reads it from a file. Older ones know one CNN and one precision."""
        kind = state.get("kind", "flat" if state.get("flat") else "cnn")
        features = int(state.get("picture_features", PICTURE_FEATURES))
        return Sight(str(kind), features, str(state.get("precision", "float32")))


class PictureEncoder(nn.Sequential):
    """Encodes pictures: convolutions, then a linear layer to the features. `layout` has the kinds."""

    def __init__(
        self, shape: tuple[int, ...], sight: Sight, generator: torch.Generator | None, device: str = "cpu"
    ) -> None:
        """For pictures of (height, width, channels), (channels, height, width) or (height, width). Without a
        `generator` the weights are not initialised."""
        convolutions, values = layout(shape, sight.kind)
        activation = nn.LeakyReLU(0.01, inplace=True) if sight.kind == "christiano" else nn.ReLU(inplace=True)
        layers: list[nn.Module] = []
        for size in convolutions:
            if sight.kind == "impala":
                layers.append(Section(size[0], size[1], generator, device))
            else:
                layers += [convolution(*size, generator=generator, device=device), activation]
        last = orthogonal(unset(nn.Linear(values, sight.features, device="meta"), device), generator)
        flat = nn.ReLU(inplace=True) if sight.kind == "impala" else layers.pop()  # cheaper of rows than of pictures
        super().__init__(*layers, nn.Flatten(), flat, last, activation)
        self.shape, self.precision = with_channels(shape), sight.precision
        self.channels_first, self.ready = channels_first(self.shape), False
        self.blocks = blocks(self.shape, convolutions[0]) if sight.precision == "bfloat16" else 0

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features (B, F) float32 of pixels (B, prod(shape)) uint8, or of what `arranged` made of them."""
        half = self.precision == "bfloat16"
        x = self.arranged(pixels).reshape(-1, *self.arranged_shape)
        x = x if self.channels_first else x.permute(0, 3, 1, 2)  # in memory as they were: channels last
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            seen = self.first(x if half else x.float())
            for layer in list(self)[1:]:
                seen = layer(seen)
            return seen.float()

    def arranged(self, pixels: Tensor) -> Tensor:
        """Returns pixels (B, prod(shape)) uint8 as the first convolution is fastest with them; what is so already, it
        returns as it is. In bfloat16 that is one with all channels of as many pixels as it strides over side by side,
        64 of them in the CNN of Nature, which does the same products in half the time."""
        if self.precision != "bfloat16" or pixels.dtype == torch.bfloat16:
            return pixels
        if not self.blocks:
            return pixels.to(torch.bfloat16)
        height, width, channels = self.shape
        cells = pixels.reshape(-1, height // self.blocks, self.blocks, width // self.blocks, self.blocks * channels)
        return cells.transpose(2, 3).to(torch.bfloat16, memory_format=torch.contiguous_format).flatten(1)

    @property
    def arranged_shape(self) -> tuple[int, ...]:
        """Returns the shape of a picture that is `arranged`."""
        if not self.blocks:
            return self.shape
        height, width, channels = self.shape
        return height // self.blocks, width // self.blocks, self.blocks**2 * channels

    def first(self, x: Tensor) -> Tensor:
        """Returns what the first layer makes of x (B, C, H, W), 0 to 255, as if it were 0 to 1: its weights are divided
        rather than the pixels, of which there are many, and which bfloat16 holds exactly as they are."""
        layer, whole = self[0], self.first_convolution()
        weight = whole.weight if self.ready else self.first_weight()
        stride = (1, 1) if self.blocks else whole.stride
        seen = functional.conv2d(x, weight, whole.bias, stride, whole.padding)
        return layer.rest(seen) if isinstance(layer, Section) else seen

    def first_weight(self) -> Tensor:
        """Returns the first convolution's weights for pixels as they are `arranged`."""
        weight, block = self.first_convolution().weight / 255, self.blocks
        if not block:
            return weight
        outputs, channels, kernel, _ = weight.shape
        cells = kernel // block
        split = weight.reshape(outputs, channels, cells, block, cells, block).permute(0, 3, 5, 1, 2, 4)
        return split.reshape(outputs, block * block * channels, cells, cells)

    def first_convolution(self) -> nn.Conv2d:
        layer = self[0]
        whole = layer.convolutions[0] if isinstance(layer, Section) else layer
        assert isinstance(whole, nn.Conv2d)
        return whole

    @torch.no_grad()
    def make_ready(self) -> None:
        """Has it see the same, to the same bits, for many calls without gradients: what would be done to the weights at
        every call is done to them now, which of a few pictures in bfloat16 is half the work."""
        self.first_convolution().weight = nn.Parameter(self.first_weight(), requires_grad=False)
        self.ready = True
        if self.precision == "bfloat16":
            self.to(torch.bfloat16)


class Section(nn.Module):
    """Does one section of IMPALA's network: a convolution, a pool that halves the sides, two residual blocks."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None, device: str) -> None:
        super().__init__()
        sizes = [n_in, n_out, n_out, n_out, n_out]
        self.convolutions = nn.ModuleList(
            convolution(n, n_out, 3, 1, padding=1, generator=generator, device=device) for n in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.convolutions[0](x))

    def rest(self, x: Tensor) -> Tensor:
        """Returns what comes behind the first convolution."""
        x, blocks = functional.max_pool2d(x, 3, 2, 1), self.convolutions[1:]
        for one, two in zip(blocks[::2], blocks[1::2], strict=True):
            x = x + two(functional.relu(one(functional.relu(x))))
        return x


def layout(shape: tuple[int, ...], kind: str = "cnn") -> tuple[list[Convolution], int]:
    """Return the convolutions for pictures of this shape, and the number of values that the last of them puts out.

    cnn        that of Mnih et al. (Nature 2015), as Stable-Baselines3 has it; for sides below 36, two of 3x3
    cnn-small  the one before it (Mnih et al., arXiv 1312.5602), a third of the work; for sides below 20, two of 3x3
    impala     the residual network of Espeholt et al. (arXiv 1802.01561, figure 3, right): the first convolution of
               each section
    christiano that of Christiano et al.'s reward (arXiv 1706.03741, appendix A.2), without batch normalisation and
               dropout; for sides below 43, two of 3x3
    """
    shape = with_channels(shape)
    channels, *sides = shape if channels_first(shape) else (shape[-1], *shape[:-1])
    if kind == "impala":
        for _ in IMPALA:
            sides = [(side + 1) // 2 for side in sides]
        sizes = zip((channels, *IMPALA), IMPALA, strict=False)
        return [(n_in, n_out, 3, 1) for n_in, n_out in sizes], IMPALA[-1] * math.prod(sides)
    if kind == "cnn-small":
        large, small = [(16, 8, 4), (32, 4, 2)], [(16, 3, 1), (32, 3, 2)]
        found = large if min(sides) >= SMALL_SIDE else small
    elif kind == "christiano":
        large, small = [(16, 7, 3), (16, 5, 2), (16, 3, 1), (16, 3, 1)], [(16, 3, 1), (16, 3, 2)]
        found = large if min(sides) >= CHRISTIANO_SIDE else small
    else:
        found = [(32, 8, 4), (64, 4, 2), (64, 3, 1)] if min(sides) >= NATURE_SIDE else [(32, 3, 1), (64, 3, 2)]
    for _, kernel, stride in found:
        sides = [(side - kernel) // stride + 1 for side in sides]
    inputs = (channels, *(n_out for n_out, _, _ in found))
    return [(n, *one) for n, one in zip(inputs, found, strict=False)], found[-1][0] * math.prod(sides)


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a picture with its channels."""
    return shape if len(shape) == 3 else (*shape, 1)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Say whether a picture of three dimensions has its channels, of which there are fewest, before its sides."""
    return shape[0] < shape[-1]


def blocks(shape: tuple[int, ...], first: Convolution) -> int:
    """Return how many pixels a side of a block has for `PictureEncoder.arranged`: as many as the first convolution
    strides over, where its kernel and the picture are made of such blocks; else 0."""
    _, _, kernel, stride = first
    whole = stride > 1 and not any(side % stride for side in (kernel, *shape[:2]))
    return stride if whole and not channels_first(shape) else 0


def check_pictures(parts: Sequence[Part], parameters: Mapping[str, Any], sight: Sight, prefix: str = "") -> None:
    """Raise ValueError unless the weights of each picture's network are there, each as large as it has to be: a network
    is made only of what a file has, however much it claims."""
    for i, part in enumerate(() if sight.kind == "flat" else [part for part in parts if part.picture]):
        for name, weight in PictureEncoder(part.shape, sight, None, "meta").named_parameters(f"{prefix}pictures.{i}"):
            if tuple(parameters[name].shape) != tuple(weight.shape):
                raise ValueError(f"{name} is {tuple(parameters[name].shape)}, not {tuple(weight.shape)}")


def convolution(
    n_in: int, n_out: int, kernel: int, stride: int, *, padding: int = 0, generator: torch.Generator | None, device: str
) -> nn.Module:
    """Return an orthogonal convolution."""
    layer = unset(nn.Conv2d(n_in, n_out, kernel, stride, padding=padding, device="meta"), device)
    return orthogonal(layer, generator)


def orthogonal(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> nn.Module:
    """Return the layer with orthogonal weights (gain sqrt 2) and zero biases; without a generator, as it is."""
    assert layer.bias is not None
    if generator is not None:
        nn.init.orthogonal_(layer.weight, math.sqrt(2), generator=generator)
        nn.init.zeros_(layer.bias)
    return layer
