"""The ensemble's networks as stacked layers: made, and evaluated.

E ensemble, B batch, S clips, L steps of a clip, I inputs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from rlhf_control.config import RewardConfig
from rlhf_control.reward.compiled import Layers, step_outputs

INPUT_CLIP, OUTPUT_CLIP = 5.0, 10.0  # standard deviations
CHUNK = 256  # rows; larger stacked products are slower on a CPU


def nearest_distance(rows: Tensor, support: Tensor) -> Tensor:
    """Returns the Euclidean distance (B,) of each row (B, I) to the nearest of the support (M, I)."""
    return torch.cat([torch.cdist(chunk, support).amin(1) for chunk in rows.split(1024)])


def zero_layers(sizes: Sequence[int], members: int) -> Layers:
    """Makes networks with layers of these sizes, inputs and outputs included, that say 0."""
    return [(torch.zeros(members, i, o), torch.zeros(members, 1, o)) for i, o in pairwise(sizes)]


def initial_layers(sizes: Sequence[int], members: int, generator: torch.Generator) -> Layers:
    """Draws weights and biases uniformly in +-1/sqrt(fan in)."""
    layers = zero_layers(sizes, members)
    for layer in layers:
        for parameter in layer:
            parameter.uniform_(-(layer[0].shape[1] ** -0.5), layer[0].shape[1] ** -0.5, generator=generator)
    return layers


def outputs(layers: Layers, x: Tensor) -> Tensor:
    """Computes tanh outputs (E, B) for inputs (B, I), or (E, B, I) with a batch of each member's own."""
    x = x.expand(len(layers[0][0]), -1, -1) if x.ndim == 2 else x
    for weight, bias in layers[:-1]:
        x = functional.leaky_relu(torch.baddbmm(bias, x, weight), 0.01)
    weight, bias = layers[-1]
    return torch.tanh(torch.baddbmm(bias, x, weight))[..., 0]


def scores(layers: Layers, x: Tensor) -> Tensor:
    """Computes outputs (E, ...) of standardised inputs (..., I), without gradients."""
    flat = x.flatten(0, -2)
    rows = step_outputs(layers, flat)
    if rows is None:
        with torch.no_grad():
            rows = torch.cat([outputs(layers, chunk) for chunk in flat.split(CHUNK)], 1)
    return rows.reshape(-1, *x.shape[:-1])


def clip_logits(layers: Layers, frames: Tensor, config: RewardConfig, mask: Tensor | None = None) -> Tensor:
    """Computes logits (E, S) for clips of standardised inputs (S, L, I), of which the steps in the mask (S, L)
    count."""
    return config.logit_scale * mean_over_steps(scores(layers, frames), mask)


def mean_over_steps(values: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the means (...,) of values (..., L) over the steps in the mask (..., L); None: all. A mask of floats are
    the weights of the steps in a sum."""
    if mask is None:
        return values.mean(-1)
    if mask.is_floating_point():
        return (values * mask).sum(-1)
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def standardised(out: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Returns outputs (E, B) in standard deviations (E, 1) from their means (E, 1), clipped."""
    return ((out - mean) / std).clamp(-OUTPUT_CLIP, OUTPUT_CLIP)
