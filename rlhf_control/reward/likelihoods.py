"""What an answer says about the clips it judges: one log-likelihood for each kind of feedback.

Every clip has a logit, in this project `logit_scale` times its mean reward; answers depend on differences of logits
only, except where a learned scale stands between. Pure torch; leading dimensions (...) broadcast. "Cannot tell" says
nothing and never comes here.

A lapse is an answer that is drawn at random from the possible ones. It bounds what one wrong answer can cost without
capping the margin of the others (Christiano et al., arXiv 1706.03741, section 2.2.3, with 10 %); label smoothing
would cap both.

K items, M sets of items, R levels of a rating.
"""

import functools
import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

LOG_2PI = math.log(2 * math.pi)
END = 0.5  # of an episode, the share of its steps that are its end


def with_lapse(log_prob: Tensor, log_random: Tensor | float, lapse: float) -> Tensor:
    """Returns log((1 - lapse) * p + lapse * p_random)."""
    if lapse == 0:
        return log_prob
    random = torch.as_tensor(log_random, dtype=log_prob.dtype) + math.log(lapse)
    return torch.logaddexp(log_prob + math.log1p(-lapse), random) if lapse < 1 else random.expand_as(log_prob)


# -- comparisons, rankings, demonstrations, corrections


@functools.cache
def choices(size: int, order: int) -> Tensor:
    """Returns every set of one to `order` out of `size` items: (M, K) float64, 0 or 1."""
    sets = [s for n in range(1, order + 1) for s in itertools.combinations(range(size), n)]
    return torch.tensor([[float(k in s) for k in range(size)] for s in sets], dtype=torch.float64)


def ranking_log_prob(
    logits: Tensor, ranks: Tensor, log_tie: Tensor | None = None, lapse: float = 0.0, order: int | None = None
) -> Tensor:
    """Returns the log-likelihood (...,) of `ranks` (..., K): 0 is best, equal numbers tie, -1 is no item. logits: (...,
    K).

    Plackett-Luce: the best is chosen from all, the second from the rest, and so on; each choice may lapse. With
    `log_tie` (...,), log nu, a choice may be a tie of n items, of weight nu^(n - 1) times the geometric mean of theirs
    (Firth, Kosmidis and Turner, arXiv 1909.07123: Davidson-Luce, with delta_n = nu^(n - 1)), for n up to `order`
    (default: all). For two items that is Davidson (1970), P(tie) = nu sqrt(ab) / (a + b + nu sqrt(ab)), and without
    ties Bradley-Terry, P(first) = a / (a + b); a comparison is a ranking of two.

    What ties for the last place is not compared: (0, 1, 1, 1), the best of four, is one first choice; so is a
    demonstration above the policy's own clips. Only where all tie, (0, 0), is a last place also a first, and a
    statement. Without `log_tie` the likelihood of a tie is the geometric mean of its items' (a cross-entropy of 1/2).
    """
    size = logits.shape[-1]
    order = 1 if log_tie is None else min(order or size, size)
    sets = choices(size, order).to(logits.dtype)
    counts = sets.sum(-1)
    weights = logits @ (sets / counts[:, None]).T  # (..., M), logs
    if log_tie is not None:
        weights = weights + log_tie[..., None] * (counts - 1)
    total = torch.zeros_like(logits[..., 0])
    for place in range(size - 1):
        best, present = ranks == place, ranks >= place
        stated = best.any(-1) & ((best != present).any(-1) | (place == 0))
        possible = ((~present).to(logits.dtype) @ sets.T == 0) | ~stated[..., None]
        n = best.sum(-1).clamp(min=1)
        chosen = (logits * best).sum(-1) / n
        if log_tie is not None:
            chosen = chosen + log_tie * (n - 1)
        log_prob = chosen - weights.masked_fill(~possible, -math.inf).logsumexp(-1)
        log_prob = with_lapse(log_prob, -possible.sum(-1).to(logits.dtype).log(), lapse)
        total = total + torch.where(stated, log_prob, 0.0)
    return total


def groups_log_prob(logits: Tensor, ranks: Tensor, log_tie: Tensor | None = None, lapse: float = 0.0) -> Tensor:
    """Returns the log-likelihood (...,) of `ranks` (..., K) of two groups of clips, first all of one group, then all of
    the other; -1 is no item. logits: (..., K).

    A comparison of the groups' mean logits. As a logit is a mean of rewards over a clip's steps, that is Christiano et
    al.'s comparison (arXiv 1706.03741, eq. 1) of one group's steps with the other's. Kompatscher et al. (arXiv
    2507.04340), who let people compare groups, take them for comparisons of each clip with each of the others; but then
    one answer would count K^2 / 4 times.
    """
    number = (ranks >= 0).sum(-1, keepdim=True)
    place = torch.arange(ranks.shape[-1]).expand(ranks.shape)
    first = place < number // 2
    second = (place < number) & ~first
    means = [(logits * own).sum(-1) / own.sum(-1).clamp(min=1) for own in (first, second)]
    last = ranks.gather(-1, (number - 1).clamp(min=0))[..., 0]
    return ranking_log_prob(torch.stack(means, -1), torch.stack([ranks[..., 0], last], -1), log_tie, lapse, 2)


# -- ratings


def ordered_cuts(raw: Tensor) -> Tensor:
    """Returns increasing cut points (..., R - 1) from free numbers: the first, then steps of softplus."""
    return torch.cat([raw[..., :1], functional.softplus(raw[..., 1:])], -1).cumsum(-1)


def raw_cuts(cuts: Tensor) -> Tensor:
    """Inverts `ordered_cuts`, for strictly increasing cut points."""
    return torch.cat([cuts[..., :1], torch.expm1(cuts.diff(dim=-1)).log()], -1)


def rating_log_prob(logits: Tensor, rating: Tensor, cuts: Tensor, lapse: float = 0.0) -> Tensor:
    """Returns the log-likelihood (...,) of ratings (...,), whole numbers from 0 (worst), of clips with logits (...,).

    Cumulative link with increasing cut points (..., R - 1): P(rating <= k) = sigmoid(cuts[k] - logit) (McCullagh 1980,
    the proportional-odds model). With upper and lower cut b and a, log(sigmoid(b) - sigmoid(a)) =
    log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a - b)), which stays finite where the difference would vanish.
    """
    shape = torch.broadcast_shapes(logits.shape, rating.shape, cuts.shape[:-1])
    ends = torch.full((*cuts.shape[:-1], 1), 1e6, dtype=cuts.dtype)  # as good as infinite, with a gradient of 0
    edges = torch.cat([-ends, cuts, ends], -1).expand(*shape, -1)
    rating = rating.expand(shape)[..., None]
    below, above = (edges.gather(-1, rating + i)[..., 0] for i in (0, 1))
    gap = torch.log(-torch.expm1((below - above).clamp(max=-1e-6)))
    log_prob = functional.logsigmoid(above - logits) + functional.logsigmoid(logits - below) + gap
    return with_lapse(log_prob, -math.log(cuts.shape[-1] + 1), lapse)


# -- success marks


def last_steps(mask: Tensor, share: float = END) -> Tensor:
    """Tells which of the steps in the mask (..., L) are the last of them, a `share` rounded up: (..., L) bool."""
    to_come = mask.flip(-1).cumsum(-1).flip(-1)  # this one included
    return mask & (to_come <= torch.ceil(share * mask.sum(-1, keepdim=True)))


def success_log_prob(margin: Tensor, success: Tensor, mask: Tensor | None = None, lapse: float = 0.0) -> Tensor:
    """Returns the log-likelihood (...,) of marks (...,), 1 success and 0 failure, of episodes whose steps' logits lie
    `margin` (..., L) above a threshold that is learned with the reward. mask (..., L): the steps there are; None: all.

    A mark says what an episode has come to, not what it adds up to: of a success the steps of the second half are such
    as are sought, of a failure none is, and of how a success was come to nothing is said. So the learned reward is the
    logit of a classifier of steps, as in Fu et al. (VICE, arXiv 1805.11686) and Luo et al. (HIL-SERL, arXiv
    2410.21845): P(sought) = sigmoid(logit - threshold). Each episode counts once, as the mean over its steps; a lapse
    is one step's, so that no single step of a failure, however near it came, weighs much.
    """
    mask = torch.ones_like(margin, dtype=torch.bool) if mask is None else mask.expand(margin.shape)
    good = (success > 0)[..., None]
    log_prob = with_lapse(functional.logsigmoid(torch.where(good, margin, -margin)), -math.log(2), lapse)
    said = torch.where(good, last_steps(mask), mask)
    return torch.where(said, log_prob, 0.0).sum(-1) / said.sum(-1).clamp(min=1)


# -- rewards


def normal_log_prob(x: Tensor, mean: Tensor | float, log_std: Tensor) -> Tensor:
    """Returns the log-density (...,) of a normal distribution."""
    return -0.5 * ((x - mean) * torch.exp(-log_std)).square() - log_std - 0.5 * LOG_2PI


def reward_log_prob(
    logits: Tensor, value: Tensor, log_slope: Tensor, intercept: Tensor, log_std: Tensor, lapse: float = 0.0
) -> Tensor:
    """Returns the log-density (...,) of standardised rewards `value` (...,) given to clips with logits (...,).

    value ~ Normal(slope * logit + intercept, std), all three learned with the rest, since neither the units of the
    given rewards nor those of the logits mean anything; a lapse is Normal(0, 1), any of the rewards given.
    """
    log_prob = normal_log_prob(value, torch.exp(log_slope) * logits + intercept, log_std)
    return with_lapse(log_prob, normal_log_prob(value, 0.0, torch.zeros_like(log_std)), lapse)
