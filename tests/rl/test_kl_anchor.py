from dataclasses import replace

import numpy as np
import pytest
import torch

from rlhf_control.config import ReferenceConfig
from rlhf_control.data import Rollout
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.kl_anchor import EVERY, Anchor, adapted_beta, frozen
from tests.conftest import random_rollout


def moved(policy: Policy) -> None:
    with torch.no_grad():
        policy.log_std.add_(0.3)
        policy.actor[-1].bias.add_(0.1)


def divergence(policy: Policy, reference: Policy, rollout: Rollout) -> tuple[np.ndarray, float]:
    """(log policy - log reference (T, N), the KL that is reported)."""
    penalty, metrics = Anchor(reference, ReferenceConfig(beta=1.0)).penalty(frozen(policy), rollout)
    return penalty, metrics["kl_start"]


def test_kl_and_log_ratio_are_those_of_the_two_gaussians(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    reference = cheetah_policy.frozen()
    log_ratio, kl = divergence(cheetah_policy, reference, rollout)
    assert (log_ratio == 0).all() and kl == 0
    moved(cheetah_policy)
    p, q = (torch.distributions.Normal(m.distribution(m.features(rollout.obs)).mean, m.log_std.exp())
            for m in (cheetah_policy, reference))  # fmt: skip
    action = torch.from_numpy(rollout.action)
    log_ratio, kl = divergence(cheetah_policy, reference, rollout)
    by_step = torch.distributions.kl_divergence(p, q).sum(-1).detach()
    assert kl == pytest.approx(by_step[::EVERY].mean().item(), rel=1e-4)
    np.testing.assert_allclose(
        log_ratio, (p.log_prob(action) - q.log_prob(action)).sum(-1).detach(), rtol=1e-3, atol=1e-3
    )


def test_as_a_reward_the_log_ratio_has_the_gradient_of_the_kl(cheetah_policy: Policy) -> None:
    """By the score function, over the policy's own actions: the closed form, the same for every action, has none."""
    reference, rng = cheetah_policy.frozen(), np.random.default_rng(0)
    moved(cheetah_policy)
    obs = np.zeros((20_000, 1, 17), np.float32)
    p, q = (x.distribution(x.features(obs)) for x in (cheetah_policy, reference))
    mean, std = p.mean.detach().numpy(), p.log_std.detach().exp().numpy()
    action = (mean + std * rng.standard_normal(mean.shape)).astype(np.float32)
    rollout = replace(random_rollout(rng, T=20_000, N=1), obs=obs, action=action)
    score = (action - mean) / std**2  # d log p / d mean
    expected = ((p.mean - q.mean) / q.log_std.exp() ** 2)[0, 0].detach().numpy()  # d KL / d mean
    log_ratio, kl = divergence(cheetah_policy, reference, rollout)
    np.testing.assert_allclose((score * log_ratio[..., None]).mean((0, 1)), expected, atol=0.1)
    assert np.abs(expected).min() > 0.1
    assert np.abs((score * kl).mean((0, 1))).max() < 0.05


def test_the_reference_keeps_its_own_normaliser(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(policy="pretrained", beta=1.0))
    cheetah_policy.obs_norm.update(np.full((1000, 17), 5.0))  # same weights, other eyes
    penalty, metrics = anchor.penalty(frozen(cheetah_policy), rollout)
    assert metrics["kl_start"] > 0 and (penalty != 0).all()


def test_ratchet_or_pretrained(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    for kind in ("round", "pretrained"):
        policy = cheetah_policy.frozen()
        anchor = Anchor(policy, ReferenceConfig(policy=kind, beta=0.5))  # type: ignore[arg-type]
        moved(policy)
        anchor.new_round(policy)
        penalty, metrics = anchor.penalty(frozen(policy), rollout)
        assert metrics["kl_start"] > 0  # always to the start, whatever the reference
        assert metrics["kl_start"] == divergence(policy, anchor.pretrained.policy, rollout)[1]
        assert (metrics["kl_reference"] == 0) == (kind == "round")
        assert penalty.shape == rollout.reward.shape
        np.testing.assert_array_equal(
            penalty, np.float32(0.5) * divergence(policy, anchor.reference.policy, rollout)[0]
        )


def test_adaptation_by_hand() -> None:
    assert adapted_beta(0.1, kl=0.2, target=0.2, steps=1000) == pytest.approx(0.1)
    assert adapted_beta(0.1, kl=9.0, target=0.2, steps=1000) == pytest.approx(0.1 * 1.02)  # clipped to +20 %
    assert adapted_beta(0.1, kl=0.0, target=0.2, steps=1000) == pytest.approx(0.1 * 0.98)
    assert adapted_beta(0.1, kl=0.22, target=0.2, steps=10_000) == pytest.approx(0.11)


def test_the_controller_is_fed_the_kl_of_the_rollout_it_penalises(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(policy="pretrained", beta=0.5, target=0.01))
    moved(cheetah_policy)
    penalty, metrics = anchor.penalty(frozen(cheetah_policy), rollout)
    log_ratio, kl = divergence(cheetah_policy, anchor.reference.policy, rollout)
    np.testing.assert_array_equal(penalty, np.float32(0.5) * log_ratio)  # with the beta of before
    assert metrics["kl_reference"] == kl
    assert metrics["beta"] == 0.5
    assert anchor.beta == adapted_beta(0.5, metrics["kl_reference"], 0.01, rollout.reward.size)


def test_state_round_trip(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(beta=0.5, target=0.1))
    moved(cheetah_policy)
    anchor.new_round(cheetah_policy)
    moved(cheetah_policy)
    anchor.penalty(frozen(cheetah_policy), rollout)
    other = Anchor(cheetah_policy, ReferenceConfig(beta=0.5, target=0.1))
    other.load_state(anchor.state())
    (a, x), (b, y) = anchor.penalty(frozen(cheetah_policy), rollout), other.penalty(frozen(cheetah_policy), rollout)
    np.testing.assert_array_equal(a, b)
    assert x == y


@pytest.mark.parametrize(
    ("kind", "beta", "tighter"), [("round", 0.5, 1.0), ("pretrained", 0.5, 1.0), ("round", 0, 0.02)]
)
def test_tightened(cheetah_policy: Policy, kind: str, beta: float, tighter: float) -> None:
    policy = cheetah_policy.frozen()
    anchor = Anchor(policy, ReferenceConfig(policy=kind, beta=beta))  # type: ignore[arg-type]
    moved(policy)
    anchor.tighten(policy)
    _, metrics = anchor.penalty(frozen(policy), random_rollout(np.random.default_rng(0)))
    assert metrics["beta"] == tighter and (metrics["kl_reference"] == 0) == (kind == "round")
