"""The compiled update is held to autograd, to finite differences and to torch's Adam."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.nets.distributions import Categorical, Gaussian
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.batch import Batch, minibatches
from rlhf_control.rl.compiled import CompiledUpdate
from rlhf_control.rl.ppo import AutogradUpdate
from rlhf_control.spaces import Spaces

CONTROLS, KINDS = ["clip", "kl-penalty"], ["box", "discrete", "choices"]


def make_policy(kind: str, hidden: tuple[int, ...] = (64, 64), seed: int = 0, *, obs: int = 17, n: int = 6) -> Policy:
    """Far enough from its initialisation that no gradient is small."""
    if kind == "box":
        spaces = Spaces((obs,), kind, (n,), (-1.0,) * n, (1.0,) * n)
    else:
        spaces = Spaces((obs,), "discrete", (n,) if kind == "discrete" else (n, 2, 3))
    policy = Policy(spaces, NetConfig(hidden), seed, "none", {})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return policy


EDGES = tuple(math.log(1 + side * clip) for clip in (0.05, 0.2) for side in (-1, 1))  # of the clip ranges used here


def make_batch(policy: Policy, rows: int, seed: int, spread: float = 0.3) -> Batch:
    """Of an old policy whose log-probabilities differ by about `spread`: ratios within and beyond the clip range. None
    lies on an edge of it, where the last bit of a product would decide on which side."""
    rng = np.random.default_rng(seed)
    dtype = next(policy.parameters()).dtype
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape)).to(dtype)  # noqa: E731
    features = normal(rows, policy.spaces.obs_size)
    with torch.no_grad():
        old = copy.deepcopy(policy).distribution(features).detached()
        noise = 0.1 * normal(rows, policy.spaces.action_size)
        if isinstance(old, Gaussian):
            old = Gaussian(old.mean + noise, old.log_std + 0.1)
            action = old.mean + old.log_std.exp() * normal(*old.mean.shape)
        else:
            old = Categorical(old.logits + noise, old.sizes)
            action = torch.from_numpy(rng.integers(old.sizes, size=(rows, len(old.sizes))))
        old_log_prob = old.log_prob(action) + spread * normal(rows)
        log_ratio = policy.distribution(features).log_prob(action) - old_log_prob
        for edge in EDGES:
            old_log_prob += 2e-3 * ((log_ratio - edge).abs() < 1e-3)
    return Batch(features, action, normal(rows), 2 * normal(rows), old, old_log_prob)


def pair(policy: Policy, config: PPOConfig) -> tuple[CompiledUpdate, AutogradUpdate]:
    return CompiledUpdate(copy.deepcopy(policy), config), AutogradUpdate(copy.deepcopy(policy), config)


def step(update: CompiledUpdate | AutogradUpdate, batch: Batch, lr: float) -> dict[str, float]:
    return update.steps(batch, [np.arange(len(batch))], lr, 0.2, 1.0, math.inf)[0]


def value_step(update: CompiledUpdate | AutogradUpdate, batch: Batch, lr: float) -> None:
    update.value_steps(batch, [np.arange(len(batch))], lr)


def bound(update: CompiledUpdate) -> list[np.ndarray]:
    return update.views(update.parameters)


def assert_gradients_equal(fast: CompiledUpdate, autograd: AutogradUpdate) -> None:
    gradients = fast.views(fast.d_parameters)
    largest = max(p.grad.abs().max().item() for p in autograd.policy.parameters() if p.grad is not None)
    for name, ours, parameter in zip(fast.names, gradients, autograd.policy.parameters(), strict=True):
        assert parameter.grad is not None
        theirs = parameter.grad.numpy()
        # A bias's gradient can be a small difference of large terms, and be off by a last bit of those
        atol = 2e-5 * np.abs(theirs).max() + 1e-6 * largest + 1e-9
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=atol, err_msg=name)


def assert_parameters_close(fast: CompiledUpdate, autograd: AutogradUpdate, tolerance: float) -> None:
    for name, ours, theirs in zip(fast.names, bound(fast), autograd.policy.parameters(), strict=True):
        difference = np.abs(ours - theirs.detach().numpy()).max()
        assert difference <= tolerance * np.abs(ours).max(), name


# -- gradients


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("control", CONTROLS)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(2, 80),
    hidden=st.sampled_from([(64, 64), (), (5,), (3, 16, 8)]),
    actions=st.integers(1, 7),
    clip=st.sampled_from([0.05, 0.2]),
    normalize=st.booleans(),
    entropy=st.sampled_from([0.0, 0.1]),
)
def test_gradients_and_metrics_equal_autograds(
    kind: str, control: str, seed: int, rows: int, hidden: tuple[int, ...], actions: int, clip: float, normalize: bool,
    entropy: float,
) -> None:  # fmt: skip
    config = PPOConfig(step_control=control, normalize_advantage=normalize, entropy_coef=entropy, value_coef=0.7)  # type: ignore[arg-type]
    policy = make_policy(kind, hidden, seed, n=actions)
    fast, autograd = pair(policy, config)
    batch = make_batch(policy, rows, seed)
    ours, theirs = fast.gradient(batch, clip, 0.6), autograd.gradient(batch, clip, 0.6)
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert all(type(value) is float for value in ours.values())
    assert_gradients_equal(fast, autograd)


def test_the_ratios_of_these_tests_lie_on_both_sides_of_the_clip_range() -> None:
    policy = make_policy("box")
    batch = make_batch(policy, 64, 0)
    with torch.no_grad():
        ratio = (policy.distribution(batch.features).log_prob(batch.action) - batch.old_log_prob).exp()
    for side in (ratio < 0.8, (ratio > 0.8) & (ratio < 1.2), ratio > 1.2):
        for sign in (batch.advantage > 0, batch.advantage < 0):
            assert (side & sign).sum() >= 3


@pytest.mark.parametrize("advantage", [0.0, 3.0, -3.0])
def test_the_surrogate_shares_the_gradient_as_torch_does(advantage: float) -> None:
    """Rows inside the range and outside, close to its edges; and where r A = clip(r) A because A is 0."""
    policy = make_policy("box")
    fast, autograd = pair(policy, PPOConfig(normalize_advantage=False))
    batch = make_batch(policy, 8, 0)
    log_prob = fast.log_prob(fast.outputs(batch.features), batch.action)
    ratios = torch.tensor([0.801, 1.199, 1.0, 1.1, 1.3, 0.5, 1.201, 0.799])
    batch = replace(batch, old_log_prob=log_prob - ratios.log(), advantage=torch.full((8,), advantage))
    metrics = fast.gradient(batch, 0.2, 1.0)
    assert metrics == pytest.approx(autograd.gradient(batch, 0.2, 1.0), rel=1e-5, abs=1e-5)
    assert metrics["clip_fraction"] == 4 / 8
    for row in range(8):
        one = batch[[row]]
        fast.gradient(one, 0.2, 1.0)
        autograd.gradient(one, 0.2, 1.0)
        assert_gradients_equal(fast, autograd)


@pytest.mark.parametrize("advantage", [0.0, 3.0, -3.0])
def test_on_the_edge_of_the_range_the_whole_gradient_counts(advantage: float) -> None:
    """As in torch. A range from 1 to 1 and ratios of exactly 1, which each of the two makes of its own
    log-probabilities."""
    policy = make_policy("box")
    fast, autograd = pair(policy, PPOConfig(normalize_advantage=False))
    batch = replace(make_batch(policy, 8, 0), advantage=torch.full((8,), advantage))
    for update in (fast, autograd):
        with torch.no_grad():
            log_prob = update.log_prob(update.outputs(batch.features), batch.action)
        metrics = update.gradient(replace(batch, old_log_prob=log_prob), 0.0, 1.0)
        assert metrics["clip_fraction"] == 0 and metrics["policy_loss"] == pytest.approx(-advantage)
    assert_gradients_equal(fast, autograd)
    actor = np.abs(fast.views(fast.d_parameters)[fast.names.index("actor.4.weight")]).max()
    assert (actor > 0) == (advantage != 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("control", CONTROLS)
def test_gradients_equal_finite_differences(kind: str, control: str) -> None:
    """In float64, every parameter of a tiny policy; the loss from the metrics, as ppo_loss defines it."""
    config = PPOConfig(step_control=control, entropy_coef=0.1)  # type: ignore[arg-type]
    policy = make_policy(kind, (3,), obs=2, n=2).double()
    batch = make_batch(policy, 7, seed=2)
    update = CompiledUpdate(policy, config)

    def loss() -> float:
        metrics = update.gradient(batch, 0.2, 0.6)
        return metrics["policy_loss"] + 0.5 * metrics["value_loss"] - 0.1 * metrics["entropy"]

    loss()
    gradients = [g.copy() for g in update.views(update.d_parameters)]
    for parameter, gradient in zip(bound(update), gradients, strict=True):
        for index in np.ndindex(parameter.shape):
            value, losses = parameter[index], []
            for step in (1e-6, -1e-6):
                parameter[index] = value + step
                losses.append(loss())
            parameter[index] = value
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[index], rel=1e-6, abs=1e-8)


# -- steps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("control", CONTROLS)
def test_fifty_steps_equal_torchs(kind: str, control: str) -> None:
    """The critic's own steps among them, and the step size of a schedule."""
    config = PPOConfig(step_control=control, entropy_coef=0.01)  # type: ignore[arg-type]
    policy = make_policy(kind)
    fast, autograd = pair(policy, config)
    clipped = 0
    for i in range(50):
        batch = make_batch(policy, 64 if i % 10 else 33, seed=i)
        lr = 1e-3 * (1 - i / 50)
        if i % 7 == 3:
            value_step(fast, batch, lr)
            value_step(autograd, batch, lr)
        step(fast, batch, lr)
        autograd.gradient(batch, 0.2, 1.0)
        clipped += sum(p.grad.square().sum().item() for p in autograd.policy.parameters() if p.grad is not None) > 0.25
        autograd.apply(lr)
    assert clipped > 0
    assert_parameters_close(fast, autograd, 1e-4)
    assert np.abs(bound(fast)[0] - next(policy.parameters()).detach().numpy()).max() > 1e-3


@pytest.mark.parametrize("max_grad_norm", [0.1, 1e6])
def test_one_step_equals_torchs_with_and_without_clipping(max_grad_norm: float) -> None:
    policy = make_policy("box")
    fast, autograd = pair(policy, PPOConfig(max_grad_norm=max_grad_norm))
    batch = make_batch(policy, 64, 0)
    step(fast, batch, 1e-3)
    step(autograd, batch, 1e-3)
    assert_parameters_close(fast, autograd, 1e-5)


def test_value_steps_equal_torchs_and_leave_the_actor_alone() -> None:
    policy = make_policy("box")
    fast, autograd = pair(policy, PPOConfig(value_coef=0.3))
    fast.gradient(make_batch(policy, 64, 99), 0.2, 1.0)  # a gradient of the actor lies about
    actor = fast.buffers[[0, 2, 3], 0].copy()
    for i in range(20):
        batch = make_batch(policy, 64, i)
        value_step(fast, batch, 1e-3)
        value_step(autograd, batch, 1e-3)
    np.testing.assert_array_equal(fast.buffers[[0, 2, 3], 0], actor)
    assert list(fast.job.adam_steps) == [0, 20]
    assert_parameters_close(fast, autograd, 1e-5)


def test_a_step_that_goes_too_far_is_not_taken() -> None:
    policy = make_policy("box")
    fast, autograd = pair(policy, PPOConfig())
    batch = make_batch(policy, 256, 0)
    rng = np.random.default_rng(0)
    order = [rows for _ in range(3) for rows in minibatches(256, 64, rng)]
    batch = replace(batch, old_log_prob=fast.log_prob(fast.outputs(batch.features), batch.action))
    kl = [metrics["approx_kl"] for metrics in fast.steps(batch, order, 1e-3, 0.2, 1.0, math.inf)]
    stops = [i for i in range(1, 12) if kl[i] > 1.5 * max(1e-4, *kl[:i])]  # far beyond all before it
    assert len(stops) > 1
    for steps in (stops[0], stops[-1], 12):
        limit = (kl[steps] + max(kl[:steps])) / 2 if steps < 12 else math.inf
        fast, autograd = pair(policy, PPOConfig())
        ours, theirs = (update.steps(batch, order, 1e-3, 0.2, 1.0, limit) for update in (fast, autograd))
        assert len(ours) == len(theirs) == steps
        for a, b in zip(ours, theirs, strict=True):
            assert a == pytest.approx(b, rel=1e-2, abs=1e-5)
        assert_parameters_close(fast, autograd, 1e-4)
        assert list(fast.job.adam_steps) == [len(ours)] * 2


@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=st.integers(2, 300),
    size=st.integers(2, 100),
    hidden=st.sampled_from([(64, 64), (), (17,), (100, 3, 16)]),
    cores=st.sampled_from([1, 2]),
)
def test_whole_epochs_equal_torchs_and_one_core_equals_two(
    kind: str, rows: int, size: int, hidden: tuple[int, ...], cores: int
) -> None:
    policy = make_policy(kind, hidden)
    batch = make_batch(policy, rows, rows)
    order = minibatches(rows, min(size, rows), np.random.default_rng(0))
    fast, autograd = pair(policy, PPOConfig())
    alone = CompiledUpdate(copy.deepcopy(policy), PPOConfig())
    fast.job.cores, alone.job.cores = cores, 3 - cores
    ours, same, theirs = (u.steps(batch, order, 1e-4, 0.2, 1.0, math.inf) for u in (fast, alone, autograd))
    assert ours == same
    np.testing.assert_array_equal(fast.buffers, alone.buffers)
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-2, abs=1e-3)


def test_padding_stays_zero() -> None:
    """Of the critic's last layer to the actor's width, and of its log_std."""
    policy = make_policy("box", (8,), n=3)
    update = CompiledUpdate(policy, PPOConfig())
    for i in range(20):
        step(update, make_batch(policy, 16, i), 1e-2)
        value_step(update, make_batch(policy, 17, i), 1e-2)
    for buffer in update.buffers:
        rest = buffer.copy()
        for view in update.views(rest):
            view[...] = 0
        assert (rest == 0).all()
    assert sum(p.numel() for p in policy.parameters()) == np.count_nonzero(update.parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "size", "hidden"), [(256, 64, (64, 64)), (150, 64, (64, 64)), (50, 64, (7, 9)), (90, 33, ())]
)
def test_the_ratio_starts_at_one_exactly(kind: str, rows: int, size: int, hidden: tuple[int, ...]) -> None:
    """Also where the rows do not divide into minibatches, and in any order."""
    policy = make_policy(kind, hidden)
    update = CompiledUpdate(policy, PPOConfig())
    batch = make_batch(policy, rows, 0)
    log_prob = update.log_prob(update.outputs(batch.features), batch.action)
    with torch.no_grad():
        torch.testing.assert_close(log_prob, policy.distribution(batch.features).log_prob(batch.action))
    batch = replace(batch, old_log_prob=log_prob)
    for order in minibatches(rows, size, np.random.default_rng(0)):
        metrics = update.gradient(batch[torch.from_numpy(order)], 0.2, 1.0)
        assert metrics["approx_kl"] == 0 and metrics["clip_fraction"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_equal_torchs(kind: str) -> None:
    policy = make_policy(kind, (64, 33))
    update = CompiledUpdate(policy, PPOConfig())
    features = 3 * torch.randn(5, 30, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(update.outputs(features), policy.actor(features), rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(update.values(features), policy.value(features), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [256, 257, 1000])
def test_outputs_are_the_same_on_one_core_and_two(rows: int) -> None:
    policy = make_policy("gaussian", (64, 33))
    update = CompiledUpdate(policy, PPOConfig())
    features = torch.randn(rows, 17, generator=torch.Generator().manual_seed(0))
    found = []
    for update.job.cores in (1, 2):
        found.append(torch.cat([update.outputs(features), update.values(features)[:, None]], 1))
    assert (found[0] == found[1]).all()
    torch.testing.assert_close(found[0][:, :-1], policy.actor(features).detach(), rtol=1e-5, atol=2e-5)


# -- bits, memory and checkpoints


def assert_states_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for i in a:
        for name, value in a[i].items():
            np.testing.assert_array_equal(value, b[i][name], strict=True)


def some_steps(update: CompiledUpdate, batches: list[Batch]) -> list[dict[str, float]]:
    metrics = []
    for batch in batches:
        value_step(update, batch, 1e-3)
        metrics.append(step(update, batch, 1e-3))
    return metrics


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_twice(kind: str) -> None:
    policy = make_policy(kind)
    batches = [make_batch(policy, rows, rows) for rows in (64, 65, 64, 2, 200)]
    one, two = (CompiledUpdate(copy.deepcopy(policy), PPOConfig()) for _ in range(2))
    assert some_steps(one, batches) == some_steps(two, batches)
    np.testing.assert_array_equal(one.buffers, two.buffers)


@pytest.mark.parametrize("kind", KINDS)
def test_state_round_trip_continues_bit_equal(kind: str) -> None:
    policy = make_policy(kind)
    batches = [make_batch(policy, 64, i) for i in range(6)]
    update = CompiledUpdate(policy, PPOConfig())
    some_steps(update, batches[:3])
    value_step(update, batches[0], 1e-3)  # the critic is a step ahead
    state, parameters = copy.deepcopy(update.state()), policy.state()
    other = CompiledUpdate(Policy.from_state(parameters), PPOConfig())
    some_steps(other, batches[3:])  # what it did before must not matter
    for target, source in zip(bound(other), bound(update), strict=True):
        target[...] = source
    other.load_state(state)
    assert_states_equal(other.state(), state)
    assert some_steps(update, batches[3:]) == some_steps(other, batches[3:])
    np.testing.assert_array_equal(update.buffers, other.buffers)


def test_a_state_without_entries_is_that_of_no_step() -> None:
    """As torch's Adam has it before the first step."""
    policy = make_policy("box")
    update = CompiledUpdate(policy, PPOConfig())
    fresh = update.state()
    some_steps(update, [make_batch(policy, 64, 0)])
    update.load_state({})
    assert_states_equal(update.state(), fresh)


def test_a_state_is_a_copy() -> None:
    policy = make_policy("box")
    update = CompiledUpdate(policy, PPOConfig())
    some_steps(update, [make_batch(policy, 64, 0)])
    state = update.state()
    frozen = copy.deepcopy(state)
    some_steps(update, [make_batch(policy, 64, 1)])
    assert_states_equal(state, frozen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", ["none", "critic", "both"])
def test_checkpoints_pass_between_the_two_ways(kind: str, steps: str) -> None:
    policy = make_policy(kind)
    batches = [make_batch(policy, 64, i) for i in range(4)]
    fast, autograd = pair(policy, PPOConfig())
    for update in (fast, autograd):
        for batch in batches[:2]:
            if steps != "none":
                value_step(update, batch, 1e-3)
            if steps == "both":
                step(update, batch, 1e-3)
    crossed = copy.deepcopy(policy)
    for parameter, view in zip(crossed.parameters(), bound(fast), strict=True):
        parameter.data = torch.from_numpy(view.copy())
    fast_again, autograd_again = CompiledUpdate(autograd.policy, PPOConfig()), AutogradUpdate(crossed, PPOConfig())
    fast_again.load_state(autograd.state())
    autograd_again.load_state(fast.state())
    for update in (fast_again, autograd_again):
        for batch in batches[2:]:
            value_step(update, batch, 1e-3)
            step(update, batch, 1e-3)
    assert_parameters_close(fast_again, autograd_again, 1e-5)
    assert list(fast_again.job.adam_steps) == {"none": [2, 2 + 2], "critic": [2, 2 + 4], "both": [4, 8]}[steps]


def test_the_policy_takes_every_step() -> None:
    policy = make_policy("box")
    update = CompiledUpdate(policy, PPOConfig())
    obs = np.random.default_rng(0).standard_normal((5, 17), np.float32)
    before = policy.act(obs, None)
    step(update, make_batch(policy, 64, 0), 1e-2)
    assert (policy.act(obs, None) != before).all()
    np.testing.assert_array_equal(policy.act(obs, None), Policy.from_state(policy.state()).act(obs, None))
    for change in (lambda: policy.loosen(0.5, 0.0), lambda: policy.load_parameters(make_policy("box", seed=1).state())):
        change()  # in place
        assert all(np.shares_memory(p.detach().numpy(), update.parameters) for p in policy.parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, Policy.frozen, lambda policy: Policy.from_state(policy.state())])
def test_a_copy_of_the_policy_has_parameters_of_its_own(copied: Any) -> None:
    policy = make_policy("box")
    update = CompiledUpdate(policy, PPOConfig())
    other = copied(policy)
    before = copy.deepcopy(other.state()["parameters"])
    step(update, make_batch(policy, 64, 0), 1e-2)
    for parameter in other.parameters():
        assert not np.shares_memory(parameter.detach().numpy(), update.buffers)
    for name, value in other.state()["parameters"].items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_acting_is_the_policys_own(kind: str) -> None:
    policy = make_policy(kind)
    update = CompiledUpdate(policy, PPOConfig())
    obs = np.random.default_rng(0).normal(5, 30, (40, 17)).astype(np.float32)
    for _ in range(2):  # before and after there are statistics; some are clipped
        for rows in (40, 1, 40):
            ours, theirs = update.acting(), policy.acting()
            for make_rng in (lambda: None, lambda: np.random.default_rng(1)):
                a, b = ours(obs[:rows], make_rng()), theirs(obs[:rows], make_rng())
                assert a.dtype == b.dtype and a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        policy.obs_norm.update(obs[:30] / 3)
