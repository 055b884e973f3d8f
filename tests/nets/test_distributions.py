import math

import pytest
import torch

from rlhf_control.nets.distributions import Categorical, Gaussian


def test_gaussian_by_hand() -> None:
    p = Gaussian(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, math.log(2.0)]))
    q = Gaussian(torch.tensor([[0.0, 0.0]]), torch.tensor([math.log(2.0), math.log(2.0)]))
    # log N(1; 1, 1) + log N(2; 0, 2)
    assert p.log_prob(torch.tensor([[1.0, 2.0]])).item() == pytest.approx(-math.log(2 * math.pi) - math.log(2) - 0.5)
    assert p.entropy().item() == pytest.approx(math.log(2 * math.pi * math.e) + math.log(2))
    # log(2/1) + (1 + 1) / (2 * 4) - 1/2
    assert p.kl(q).item() == pytest.approx(math.log(2) + 0.25 - 0.5)
    assert p.kl(p).item() == 0


def test_closed_forms_equal_torch_distributions() -> None:
    rng = torch.Generator().manual_seed(0)
    mean, other = torch.randn(2, 9, 3, generator=rng)
    std, other_std = torch.rand(2, 3, generator=rng) + 0.1
    action = torch.randn(9, 3, generator=rng)
    ours, theirs = Gaussian(mean, std.log()), torch.distributions.Normal(mean, std)
    against = torch.distributions.Normal(other, other_std)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
    kl = torch.distributions.kl_divergence(theirs, against).sum(-1)
    torch.testing.assert_close(ours.kl(Gaussian(other, other_std.log())), kl)

    categorical, theirs_c = Categorical(mean, (3,)), torch.distributions.Categorical(logits=mean)
    pick = torch.randint(3, (9,), generator=rng)
    torch.testing.assert_close(categorical.log_prob(pick[:, None]), theirs_c.log_prob(pick))
    torch.testing.assert_close(categorical.entropy(), theirs_c.entropy())
    kl = torch.distributions.kl_divergence(theirs_c, torch.distributions.Categorical(logits=other))
    torch.testing.assert_close(categorical.kl(Categorical(other, (3,))), kl)


def test_several_choices_are_independent() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, other = torch.randn(2, 4, 9, generator=rng)
    sizes = (4, 2, 3)
    parts = [torch.distributions.Categorical(logits=x) for x in logits.split(sizes, -1)]
    others = [torch.distributions.Categorical(logits=x) for x in other.split(sizes, -1)]
    action = torch.stack([torch.randint(n, (4,), generator=rng) for n in sizes], -1)
    ours = Categorical(logits, sizes)
    torch.testing.assert_close(ours.log_prob(action), sum(p.log_prob(a) for p, a in zip(parts, action.T, strict=True)))
    torch.testing.assert_close(ours.entropy(), sum(p.entropy() for p in parts))
    kl = sum(torch.distributions.kl_divergence(p, q) for p, q in zip(parts, others, strict=True))
    torch.testing.assert_close(ours.kl(Categorical(other, sizes)), kl)
