"""A straight line below the networks: sparse Bayesian regression of answers on what clips are like on the mean.

What is wanted of a robot mostly hangs on few of its numbers and their squares: a speed, a height, how hard it tries.
Twenty answers can tell which, if all else is taken to be nothing until answers speak for it; a network learns as much
from a hundred. So a step is worth w . x, and each weight has a normal prior of its own, whose precision is the one
under which the answers are likeliest (MacKay, "The evidence framework applied to classification networks", Neural
Computation 4, 1992; Tipping, "Sparse Bayesian learning and the relevance vector machine", JMLR 1, 2001, section 2.3).
The networks then learn what is left.

E ensemble, S clips, Q answers, K items of an answer, I inputs, F features of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf_control.nets.policy import check_weights
from rlhf_control.reward.squares import with_squares

ITERATIONS, STILL = 30, 0.05  # at most, and fewer if no logit moves farther than this
SHAPE, RATE = 0.25, 0.025  # of the Gamma prior of precisions: a weight is 0.3 or so, unless answers say otherwise
PRECISIONS = (1e-2, 1e6)
FARTHEST = 4.0  # that a logit may go in an iteration
# Standard deviation of effort over steps: on the mean of a clip, which is what is judged, it hardly varies, so that its
# weight would have to be the larger. With 1 it took 80 answers about Ant until half of it was seen, with 3 50, with 10
# 40; but of answers a fifth of which is wrong, 10 makes effort of what is none (results/label_trials.json, "off line").
EFFORT = 3.0
LEAST_SPREAD = 0.01  # of the squares of all actions; what hardly varies must not be blown up


def feature_count(inputs: int, actions: int) -> int:
    """Returns how many `features` there are."""
    return 2 * inputs + int(actions > 1)


def features(x: Tensor, mean: Tensor, std: Tensor, actions: int, limit: float) -> Tensor:
    """Returns what is weighed of inputs (..., I) that are standardised by `mean` and `std` (I,), (..., F): the numbers
    and their squares (`squares.with_squares`) and, where the last of them are several `actions`, `effort`."""
    squared = with_squares(x, limit)
    if actions < 2:
        return squared
    own_mean, own_std = mean[-actions:], std[-actions:]
    tried = effort(x[..., -actions:] * own_std + own_mean, own_mean, own_std).clamp(-limit, limit)
    return torch.cat([squared, EFFORT * tried[..., None]], -1)


def effort(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Returns the sum of the squares of actions (..., A) as they are, (...,), standardised as if they were normal, with
    this mean and std (A,): a square then has the mean std^2 + mean^2 and the variance 2 std^4 + 4 mean^2 std^2. How
    hard a robot tries is one thing to people, whichever motor it is with: a hundred answers about an Ant tell what the
    sum is worth, but of each of its eight squares next to nothing. Of choices, one of which is 1 and the others 0, it
    is a constant."""
    variance = std.square()
    above = (action.square() - variance - mean.square()).sum(-1)
    return above / (2 * variance.square() + 4 * mean.square() * variance).sum().sqrt().clamp(min=LEAST_SPREAD)


def curvature(log_prob: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradient (E, Q, K) of `log_prob` and a root R (E, Q, K, J) of minus its second derivatives, R R^T, at
    `logits` (E, Q, K), of which each answer's (E, Q) depends on its own alone. Where it bends upwards, as that of an
    answer that is likely a lapse does, it counts as straight. J is 1 less than K, if that is more than 1: either only
    differences of an answer's logits count, or only one of them."""
    logits = logits.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(log_prob(logits).sum(), logits, create_graph=True)
    rows = [torch.autograd.grad(gradient[..., k].sum(), logits, retain_graph=True)[0] for k in range(logits.shape[-1])]
    hessian = torch.nan_to_num(torch.stack(rows, -1), 0.0, 0.0, 0.0)  # of sure lapses, see findings/
    bends, directions = torch.linalg.eigh(-hessian)
    root = directions * bends.clamp(min=0).sqrt()[..., None, :]
    return gradient.detach(), root[..., 1:] if root.shape[-1] > 1 else root


def solve(u: Tensor, precision: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Returns H^-1 gradient (E, F) and the diagonal of H^-1 (E, F), of H = U^T U + diag(precision), for U (E, R, F) and
    precision (E, F): by way of the smaller of both sizes (Woodbury's identity)."""
    if u.shape[2] <= u.shape[1]:
        inverse = torch.linalg.inv(u.mT @ u + torch.diag_embed(precision))
        return (inverse @ gradient[..., None])[..., 0], inverse.diagonal(dim1=1, dim2=2)
    scaled = u / precision[:, None]
    known = torch.linalg.solve(torch.eye(u.shape[1], dtype=u.dtype) + scaled @ u.mT, scaled)
    step = gradient / precision - (scaled.mT @ (known @ gradient[..., None]))[..., 0]
    return step, 1 / precision - (scaled * known).sum(1)


def fit_linear(log_prob: Callable[[Tensor], Tensor], means: Tensor, items: Tensor, seen: Tensor) -> Tensor:
    """Returns weights (E, F), each member's likeliest ones under the prior that is likeliest by what it sees. No prior
    is shared, or a member would know of the answers that it is held to which of the numbers count: of coin flips 62 %
    of those that are held out were as predicted.

    `log_prob`: the log-likelihoods (E, Q) of all answers, given the logits (E, Q, K) float64 of their items. means (S,
    F): the features of each clip. items (Q, K): the clips of each answer. seen (E, Q): what each member learns from.
    """
    x, used = means.double()[items], seen.double()[..., None]  # (Q, K, F), (E, Q, 1)
    weights = x.new_zeros(len(seen), means.shape[1])
    precision = torch.ones_like(weights)
    for _ in range(ITERATIONS):
        slope, root = curvature(log_prob, torch.einsum("qkf,ef->eqk", x, weights))
        gradient = torch.einsum("eqk,qkf->ef", slope * used, x) - precision * weights
        u = torch.einsum("eqkj,qkf->eqjf", root * used[..., None], x).flatten(1, 2)
        step, variance = solve(u, precision, gradient)
        farthest = torch.einsum("qkf,ef->eqk", x, step).abs().amax((1, 2))
        weights = weights + step * (FARTHEST / farthest.clamp(min=FARTHEST))[:, None]
        known = (1 - precision * variance).clamp(min=0)  # of each weight, 0 to 1
        precision = ((known + 2 * SHAPE) / (weights.square() + 2 * RATE)).clamp(*PRECISIONS)
        if farthest.max() < STILL:
            break
    return weights.float()


def weights_from_state(state: Mapping[str, Any], members: int, inputs: int, actions: int) -> Tensor | None:
    """Returns the weights in the state of a reward with so many inputs, of which so many are actions, None where it has
    no line. Of older ones, which knew of no effort, that is 0. Raises ValueError if they are of another size, or not
    finite."""
    if "linear" not in state:
        return None
    weights, expected = torch.from_numpy(state["linear"].astype("float32")), feature_count(inputs, actions)
    if weights.shape == (members, 2 * inputs) and expected > 2 * inputs:
        weights = torch.nn.functional.pad(weights, (0, 1))
    if weights.shape != (members, expected):
        raise ValueError(
            f"the line's weights have shape {tuple(weights.shape)} where the model has {members, expected}"
        )
    check_weights({"linear": weights})
    return weights
