import numpy as np
import pytest
import torch
from conftest import random_rollout

from rlhf_control.anchor import Anchor, adapted_beta, kl_divergence
from rlhf_control.config import ReferenceConfig
from rlhf_control.nets import Policy


def moved(policy: Policy) -> None:
    with torch.no_grad():
        policy.log_std.add_(0.3)
        policy.actor[-1].bias.add_(0.1)


def test_kl_is_that_of_the_two_gaussians(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    reference = cheetah_policy.frozen()
    assert (kl_divergence(cheetah_policy, reference, rollout.obs) == 0).all()
    moved(cheetah_policy)
    p, q = (torch.distributions.Normal(m.distribution(m.features(rollout.obs)).mean, m.log_std.exp())
            for m in (cheetah_policy, reference))  # fmt: skip
    expected = torch.distributions.kl_divergence(p, q).sum(-1).detach().numpy()
    np.testing.assert_allclose(kl_divergence(cheetah_policy, reference, rollout.obs), expected, rtol=1e-4)


def test_the_reference_keeps_its_own_normaliser(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(policy="pretrained", beta=1.0))
    cheetah_policy.obs_norm.update(np.full((1000, 17), 5.0))  # same weights, other eyes
    penalty, metrics = anchor.penalty(cheetah_policy, rollout)
    assert metrics["kl_start"] > 0 and (penalty > 0).all()


def test_ratchet_or_pretrained(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    for kind in ("round", "pretrained"):
        policy = cheetah_policy.frozen()
        anchor = Anchor(policy, ReferenceConfig(policy=kind, beta=0.5))  # type: ignore[arg-type]
        moved(policy)
        anchor.new_round(policy)
        penalty, metrics = anchor.penalty(policy, rollout)
        assert metrics["kl_start"] > 0  # always to the start, whatever the reference
        assert (metrics["kl_reference"] == 0) == (kind == "round")
        assert penalty.shape == rollout.reward.shape
        np.testing.assert_allclose(penalty.mean(), 0.5 * metrics["kl_reference"], rtol=1e-5)


def test_adaptation_by_hand() -> None:
    assert adapted_beta(0.1, kl=0.2, target=0.2, steps=1000) == pytest.approx(0.1)
    assert adapted_beta(0.1, kl=9.0, target=0.2, steps=1000) == pytest.approx(0.1 * 1.02)  # clipped to +20 %
    assert adapted_beta(0.1, kl=0.0, target=0.2, steps=1000) == pytest.approx(0.1 * 0.98)
    assert adapted_beta(0.1, kl=0.22, target=0.2, steps=10_000) == pytest.approx(0.11)


def test_the_controller_is_fed_the_kl_of_the_rollout_it_penalises(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(policy="pretrained", beta=0.5, target=0.01))
    moved(cheetah_policy)
    penalty, metrics = anchor.penalty(cheetah_policy, rollout)
    np.testing.assert_allclose(penalty.mean(), 0.5 * metrics["kl_reference"], rtol=1e-5)  # with the beta of before
    assert metrics["beta"] == 0.5
    assert anchor.beta == adapted_beta(0.5, metrics["kl_reference"], 0.01, rollout.reward.size)


def test_state_round_trip(cheetah_policy: Policy) -> None:
    rollout = random_rollout(np.random.default_rng(0))
    anchor = Anchor(cheetah_policy, ReferenceConfig(beta=0.5, target=0.1))
    moved(cheetah_policy)
    anchor.new_round(cheetah_policy)
    moved(cheetah_policy)
    anchor.penalty(cheetah_policy, rollout)
    other = Anchor(cheetah_policy, ReferenceConfig(beta=0.5, target=0.1))
    other.load_state(anchor.state())
    (a, x), (b, y) = anchor.penalty(cheetah_policy, rollout), other.penalty(cheetah_policy, rollout)
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
    _, metrics = anchor.penalty(policy, random_rollout(np.random.default_rng(0)))
    assert metrics["beta"] == tighter and (metrics["kl_reference"] == 0) == (kind == "round")
