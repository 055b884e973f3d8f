import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn
from torch.nn import functional

from rlhf_control.config import NetConfig
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.pictures import PictureEncoder, Sight, check_pictures, layout
from rlhf_control.nets.policy import Policy
from rlhf_control.spaces import Part, Spaces

KINDS = ["cnn", "cnn-small", "impala"]


def test_the_layers_of_nature_and_of_the_one_before() -> None:
    """Mnih et al. 2015, on 84 x 84 x 4: 20 x 20 x 32, 9 x 9 x 64, 7 x 7 x 64. 2013: 20 x 20 x 16, 9 x 9 x 32."""
    expected = [(4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)], 3136
    assert layout((84, 84, 4)) == layout((4, 84, 84)) == expected
    assert layout((10, 10)) == ([(1, 32, 3, 1), (32, 64, 3, 2)], 64 * 9)
    assert layout((84, 84, 4), "cnn-small") == ([(4, 16, 8, 4), (16, 32, 4, 2)], 32 * 81)
    assert layout((12, 12, 4), "cnn-small") == ([(4, 16, 3, 1), (16, 32, 3, 2)], 32 * 16)


def test_impala_has_fifteen_layers_and_halves_the_sides_three_times() -> None:
    """Figure 3, right, without its LSTM: 3 x (1 + 2 x 2) convolutions; 84 -> 42 -> 21 -> 11."""
    assert layout((84, 84, 4), "impala") == ([(4, 16, 3, 1), (16, 32, 3, 1), (32, 32, 3, 1)], 32 * 121)
    network = PictureEncoder((84, 84, 4), Sight("impala", 256), None, "meta")
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(84, 84, 4), (3, 64, 64), (12, 12, 4), (9, 30)])
def test_every_kind_makes_features_of_every_size_and_is_orthogonal(kind: str, shape: tuple[int, ...]) -> None:
    network = PictureEncoder(shape, Sight(kind, 8), torch.Generator().manual_seed(0))
    pixels = torch.randint(256, (3, int(np.prod(shape))), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert network(pixels).shape == (3, 8)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rows = layer.weight.flatten(1).double()
            product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(product, 2 * torch.eye(len(product)).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_brings_back_every_kind_and_claims_no_more_than_it_has(kind: str) -> None:
    spaces = Spaces.of(Box(0, 255, (24, 24, 3), np.uint8), Discrete(2))
    policy = Policy(spaces, NetConfig((8,), encoder=kind, picture_features=16), 0, "X", {})  # type: ignore[arg-type]
    again = Policy.from_state(policy.state())
    assert again.config.encoder == kind
    obs = np.random.default_rng(0).integers(256, size=(5, 24 * 24 * 3)).astype(np.uint8)
    with torch.no_grad():
        assert torch.equal(again.value(again.features(obs)), policy.value(policy.features(obs)))
    with pytest.raises(ValueError, match=r"pictures.0.* is "):
        check_pictures(spaces.parts, again.encoder.state()["parameters"], Sight(kind, 17))


def test_half_precision_is_close_to_single() -> None:
    single, half = (
        PictureEncoder((20, 20, 3), Sight("cnn-small", 32, precision), torch.Generator().manual_seed(0))
        for precision in ("float32", "bfloat16")
    )
    pixels = torch.randint(256, (8, 1200), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = half(pixels)
    assert features.dtype == torch.float32 and not torch.equal(features, single(pixels))
    torch.testing.assert_close(features, single(pixels), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("kind", ["cnn", "impala", "christiano"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_made_ready_sees_the_same_to_the_bit_and_leaves_the_policy_as_it_was(kind: str, precision: str) -> None:
    sight, generator = Sight(kind, 16, precision), torch.Generator().manual_seed(0)
    encoder = Encoder((Part("", (48, 48, 4), "uint8", 0, 48 * 48 * 4),), generator, sight)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    pixels = torch.randint(0, 256, (3, 48 * 48 * 4), dtype=torch.uint8, generator=generator)
    ready = encoder.made_ready()
    assert torch.equal(ready.without_gradients(pixels), encoder.without_gradients(pixels))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("kind, shape", [("cnn", (84, 84, 4)), ("cnn-small", (40, 32, 3)), ("cnn-small", (41, 41, 3))])
def test_pixels_arranged_in_blocks_are_seen_alike(kind: str, shape: tuple[int, ...]) -> None:
    """Where the sides are made of the strides: the same products of the first convolution, in another order."""
    half, single = (
        PictureEncoder(shape, Sight(kind, 16, precision), torch.Generator().manual_seed(0))
        for precision in ("bfloat16", "float32")
    )
    pixels = torch.randint(256, (2, math.prod(shape)), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    arranged = half.arranged(pixels)
    assert half.blocks == (0 if shape[0] % 4 else 4) and single.arranged(pixels) is pixels
    assert arranged.dtype == torch.bfloat16 and arranged.shape == pixels.shape
    assert torch.equal(arranged.float().sort().values, pixels.float().sort().values)
    assert torch.equal(half(arranged), half(pixels))
    stride = 1 if half.blocks else 4
    seen = functional.conv2d(
        arranged.float().reshape(-1, *half.arranged_shape).permute(0, 3, 1, 2), half.first_weight(), stride=stride
    )
    x = pixels.float().reshape(-1, *shape).permute(0, 3, 1, 2)
    layer = single.first_convolution()
    torch.testing.assert_close(seen, functional.conv2d(x, layer.weight / 255, stride=4))
