import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_control.reward.likelihoods import (
    choices,
    groups_log_prob,
    last_steps,
    ordered_cuts,
    ranking_log_prob,
    rating_log_prob,
    raw_cuts,
    reward_log_prob,
    success_log_prob,
)

logit = st.floats(-8, 8)
log_tie = st.floats(-4, 3)


def ranking(logits: list[float], ranks: tuple[int, ...], tie: float | None = None, lapse: float = 0.0) -> float:
    """exp(ranking_log_prob) of one answer."""
    tied = None if tie is None else torch.tensor(tie, dtype=torch.float64)
    return float(ranking_log_prob(torch.tensor(logits, dtype=torch.float64), torch.tensor(ranks), tied, lapse).exp())


# -- by hand


def test_bradley_terry_with_a_lapse() -> None:
    d = math.log(3)
    assert ranking([d, 0.0], (0, 1)) == pytest.approx(0.75)
    assert ranking([d, 0.0], (1, 0)) == pytest.approx(0.25)
    assert ranking([d, 0.0], (0, 1), lapse=0.1) == pytest.approx(0.9 * 0.75 + 0.05)
    assert ranking([100.0, 0.0], (1, 0), lapse=0.1) == pytest.approx(1 / 20)  # a mistake costs log 20, no more
    assert ranking([100.0, 0.0], (0, 1), lapse=0.1) == pytest.approx(0.95)  # and nothing is surer than that
    assert ranking([5.0, 0.0], (0, 1), lapse=1.0) == pytest.approx(0.5)
    assert ranking([d, 0.0], (0, 0)) == pytest.approx(math.sqrt(0.75 * 0.25))  # without a tie model: half each way


def test_davidson_by_hand() -> None:
    """Strengths 4 and 1, nu = 1/2: weights 4, 1 and sqrt(4) / 2 = 1."""
    logits, nu = [math.log(4), 0.0], math.log(0.5)
    assert ranking(logits, (0, 1), nu) == pytest.approx(4 / 6)
    assert ranking(logits, (1, 0), nu) == pytest.approx(1 / 6)
    assert ranking(logits, (0, 0), nu) == pytest.approx(1 / 6)
    assert ranking(logits, (0, 0), nu, lapse=0.3) == pytest.approx(0.7 / 6 + 0.3 / 3)  # three outcomes


def test_plackett_luce_by_hand() -> None:
    """Strengths 1, 2, 3."""
    logits = [0.0, math.log(2), math.log(3)]
    assert ranking(logits, (2, 1, 0)) == pytest.approx(3 / 6 * 2 / 3)
    assert ranking(logits, (0, 1, 2)) == pytest.approx(1 / 6 * 2 / 5)
    assert ranking(logits, (1, 1, 0)) == pytest.approx(3 / 6)  # best of three: a first choice
    assert ranking(logits, (2, 1, 0), lapse=0.1) == pytest.approx((0.9 / 2 + 0.1 / 3) * (0.9 * 2 / 3 + 0.1 / 2))


def test_davidson_luce_by_hand() -> None:
    """Strengths 1, 4, 16, nu = 1/2: singles 1, 4, 16; pairs 2 / 2, 4 / 2, 8 / 2 (roots); all three 64^(1/3) / 4."""
    logits, nu = [0.0, math.log(4), math.log(16)], math.log(0.5)
    everything = 1 + 4 + 16 + 1 + 2 + 4 + 1
    assert ranking(logits, (1, 0, 0), nu) == pytest.approx(4 / everything)
    assert ranking(logits, (0, 0, 0), nu) == pytest.approx(1 / everything)
    assert ranking(logits, (1, 1, 0), nu) == pytest.approx(16 / everything)
    assert ranking(logits, (2, 1, 0), nu) == pytest.approx(16 / everything * 4 / (1 + 4 + 1))
    assert ranking(logits, (0, 1, 1), nu, lapse=0.2) == pytest.approx(0.8 / everything + 0.2 / 7)


def test_groups_are_compared_by_their_means_by_hand() -> None:
    """Of logits 3, 1 and 0, 0, 3 (mean 2 and 1; the fourth of six places is none): P(first) = e^2 / (e^2 + e)."""
    logits = torch.tensor([[3.0, 1.0, 0.0, 2.0, 9.0, 9.0]], dtype=torch.float64)
    first, second, tie = (torch.tensor([[*ranks, -1, -1]]) for ranks in ((0, 0, 1, 1), (1, 1, 0, 0), (0, 0, 0, 0)))
    p = math.e**2 / (math.e**2 + math.e)
    assert groups_log_prob(logits, first).exp().item() == pytest.approx(p)
    assert groups_log_prob(logits, second, lapse=0.1).exp().item() == pytest.approx(0.9 * (1 - p) + 0.05)
    log_nu, total = torch.tensor(math.log(2.0), dtype=torch.float64), math.e**2 + math.e + 2 * math.e**1.5
    assert groups_log_prob(logits, tie, log_nu).exp().item() == pytest.approx(2 * math.e**1.5 / total)


@given(st.lists(logit, min_size=2, max_size=2), log_tie, st.floats(0, 0.5))
def test_groups_of_equals_are_as_a_comparison(logits: list[float], tie: float, lapse: float) -> None:
    two = torch.tensor(logits, dtype=torch.float64)
    nu = torch.tensor(tie, dtype=torch.float64)
    for ranks in ((0, 1), (1, 0), (0, 0)):
        pair = ranking_log_prob(two, torch.tensor(ranks), nu, lapse, 2)
        groups = groups_log_prob(two.repeat_interleave(3), torch.tensor(ranks).repeat_interleave(3), nu, lapse)
        assert groups.item() == pytest.approx(pair.item())


def test_sets_of_items() -> None:
    assert choices(3, 2).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    torch.testing.assert_close(choices(4, 1), torch.eye(4, dtype=torch.float64))


def test_cumulative_link_by_hand() -> None:
    """Cut points -1 and 2, logit 1: P(1) = s(-2), P(2) = s(1) - s(-2), P(3) = s(-1)."""
    s = torch.sigmoid(torch.tensor([-2.0, 1.0, -1.0], dtype=torch.float64))
    cuts = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    p = rating_log_prob(torch.tensor(1.0, dtype=torch.float64), torch.tensor([0, 1, 2]), cuts).exp()
    torch.testing.assert_close(p, torch.stack([s[0], s[1] - s[0], s[2]]))
    lapsed = rating_log_prob(torch.tensor(1.0, dtype=torch.float64), torch.tensor([0, 1, 2]), cuts, 0.1).exp()
    torch.testing.assert_close(lapsed, 0.9 * p + 0.1 / 3)


def test_reward_by_hand() -> None:
    """Normal(2 * 0.5 + 1, 2) at 4: one standard deviation off."""
    log_two = torch.tensor(math.log(2.0), dtype=torch.float64)
    one, half, four = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 0.5, 4.0))
    density = math.exp(-0.5) / (2 * math.sqrt(2 * math.pi))
    assert float(reward_log_prob(half, four, log_two, one, log_two).exp()) == pytest.approx(density)
    any_reward = math.exp(-8) / math.sqrt(2 * math.pi)
    lapsed = float(reward_log_prob(half, four, log_two, one, log_two, 0.25).exp())
    assert lapsed == pytest.approx(0.75 * density + 0.25 * any_reward)


# -- the same for all numbers


def weak_orders(size: int) -> list[tuple[int, ...]]:
    """Every ranking of `size` items, ties allowed, as dense ranks."""
    return [r for r in itertools.product(range(size), repeat=size) if set(r) == set(range(max(r) + 1))]


def top_choices(size: int) -> list[tuple[int, ...]]:
    """One ranking for each outcome: those that tie for a last place are not compared, so it holds one item, or all."""
    return [r for r in weak_orders(size) if max(r) == 0 or r.count(max(r)) == 1]


@given(st.lists(logit, min_size=2, max_size=4), st.sampled_from([0.0, 0.1]))
def test_orders_have_probability_one_in_all(logits: list[float], lapse: float) -> None:
    orders = itertools.permutations(range(len(logits)))
    assert sum(ranking(logits, r, None, lapse) for r in orders) == pytest.approx(1)


@given(st.lists(logit, min_size=2, max_size=4), log_tie, st.sampled_from([0.0, 0.1]))
def test_first_choices_with_ties_have_probability_one_in_all(logits: list[float], tie: float, lapse: float) -> None:
    size = len(logits)
    chosen = [
        tuple(int(k not in s) for k in range(size))
        for n in range(1, size + 1)
        for s in itertools.combinations(range(size), n)
    ]
    assert sum(ranking(logits, r, tie, lapse) for r in chosen) == pytest.approx(1)


@given(st.lists(logit, min_size=3, max_size=3), log_tie)
def test_rankings_with_ties_have_probability_one_in_all(logits: list[float], tie: float) -> None:
    """A last place shared by some, but not by all, leaves their order open, ties included: it is no outcome of its own.
    What is left out then is exactly where two tie behind a first."""
    total = sum(ranking(logits, r, tie) for r in top_choices(3))
    behind = 0.0
    for first in range(3):
        rest = [logits[k] for k in range(3) if k != first]
        behind += ranking(logits, tuple(int(k != first) for k in range(3)), tie) * ranking(rest, (0, 0), tie)
    pairs = sum(ranking(logits, r, tie) for r in [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
    assert pairs < 1 and total + behind == pytest.approx(1)


@given(
    st.lists(logit, min_size=4, max_size=4), st.sampled_from(weak_orders(4)), log_tie, st.floats(-50, 50), st.randoms()
)
def test_only_differences_count_and_places_do_not(
    logits: list[float], ranks: tuple[int, ...], tie: float, shift: float, random: object
) -> None:
    p = ranking(logits, ranks, tie, 0.1)
    assert ranking([x + shift for x in logits], ranks, tie, 0.1) == pytest.approx(p, rel=1e-6)
    order = list(range(4))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert ranking([logits[k] for k in order], tuple(ranks[k] for k in order), tie, 0.1) == pytest.approx(p, rel=1e-9)


@given(logit, logit, st.sampled_from([(0, 1), (1, 0), (0, 0)]), st.none() | log_tie, st.integers(0, 3), logit)
def test_a_comparison_is_a_ranking_of_two_however_it_is_padded(
    a: float, b: float, ranks: tuple[int, int], tie: float | None, padding: int, junk: float
) -> None:
    d, nu = torch.tensor(a - b, dtype=torch.float64), 0.0 if tie is None else math.exp(tie)
    weights = torch.stack([d.exp(), torch.ones(()), nu * (d / 2).exp()])
    weight = {(0, 1): weights[0], (1, 0): weights[1], (0, 0): weights[2]}[ranks]
    if tie is None and ranks == (0, 0):
        weight = (d / 2).exp()
    expected = 0.9 * float(weight / weights.sum()) + (0.05 if tie is None else 0.1 / 3)
    plain = ranking([a, b], ranks, tie, 0.1)
    assert plain == pytest.approx(expected, rel=1e-9)
    assert ranking([a, b] + [junk] * padding, ranks + (-1,) * padding, tie, 0.1) == pytest.approx(plain, rel=1e-12)


@given(st.lists(logit, min_size=3, max_size=3), st.floats(-2, 2), st.lists(st.floats(0.01, 3), min_size=3, max_size=3))
def test_ratings_have_probability_one_and_rise_with_the_logit(
    logits: list[float], first: float, gaps: list[float]
) -> None:
    cuts = torch.tensor([first, *gaps], dtype=torch.float64).cumsum(0)
    s = torch.tensor(sorted(logits), dtype=torch.float64)
    p = rating_log_prob(s[:, None], torch.arange(5), cuts).exp()  # (3, 5)
    torch.testing.assert_close(p.sum(1), torch.ones(3, dtype=torch.float64))
    assert (p @ torch.arange(5.0, dtype=torch.float64)).diff().min() >= -1e-9
    torch.testing.assert_close(rating_log_prob(s[:, None] + 7, torch.arange(5), cuts + 7).exp(), p)
    torch.testing.assert_close(ordered_cuts(raw_cuts(cuts)), cuts)


def test_a_mark_worked_by_hand() -> None:
    """An episode of one step, a logit of log 3 above a threshold of log 1.5: P(success) = 2 / 3, with a lapse of 0.1
    0.9 * 2 / 3 + 0.05."""
    margin = torch.tensor([[math.log(3.0) - math.log(1.5)]])
    success, failure = (success_log_prob(margin, torch.tensor([mark])).exp().item() for mark in (1.0, 0.0))
    assert (success, failure) == (pytest.approx(2 / 3, rel=1e-6), pytest.approx(1 / 3, rel=1e-6))
    assert success_log_prob(margin, torch.ones(1), lapse=0.1).exp().item() == pytest.approx(0.65, rel=1e-6)
    assert success_log_prob(margin, torch.zeros(1), lapse=0.1).exp().item() == pytest.approx(0.35, rel=1e-6)


def test_a_success_is_one_of_an_episodes_end_and_a_failure_one_of_all_its_steps() -> None:
    """Of six steps the second half, of odds 1, 3 and 1: (log 1/2 + log 3/4 + log 1/2) / 3; of the five that there are,
    three, of 1, 1 and 3. Failures: the mean of log 1 / (1 + odds) over all that there are."""
    margin = torch.tensor([7.0, 3.0, 1.0, 1.0, 3.0, 1.0]).log()
    mask = torch.tensor([True] * 5 + [False])
    found = [success_log_prob(margin, torch.tensor(mark), m).item() for m in (None, mask) for mark in (1.0, 0.0)]
    expected = [
        math.log(1 / 2 * 3 / 4 * 1 / 2) / 3, math.log(1 / 8 * 1 / 4 * 1 / 2 * 1 / 2 * 1 / 4 * 1 / 2) / 6,
        math.log(1 / 2 * 1 / 2 * 3 / 4) / 3, math.log(1 / 8 * 1 / 4 * 1 / 2 * 1 / 2 * 1 / 4) / 5,
    ]  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)
    assert last_steps(mask).tolist() == [False] * 2 + [True] * 3 + [False]


@given(st.floats(-60, 60), st.floats(-5, 5), st.sampled_from([0, 1]), st.sampled_from([0.0, 0.1]))
def test_a_mark_is_a_rating_of_two_levels(logit: float, threshold: float, mark: int, lapse: float) -> None:
    x, cut = torch.tensor([logit], dtype=torch.float64), torch.tensor([threshold], dtype=torch.float64)
    rating = rating_log_prob(x, torch.tensor([mark]), cut[None], lapse)
    marked = success_log_prob((x - cut)[None], torch.tensor([float(mark)]), lapse=lapse)
    torch.testing.assert_close(marked, rating)


@pytest.mark.parametrize("far", [-80.0, 80.0])
def test_far_logits_stay_finite(far: float) -> None:
    logits = torch.tensor([far, 0.0, -far], requires_grad=True)
    cuts = torch.tensor([-1.0, 1.0])
    total = ranking_log_prob(logits, torch.tensor([0, 1, 2]), torch.tensor(-3.0), 0.1).sum()
    total = total + rating_log_prob(logits, torch.tensor([0, 1, 2]), cuts, 0.1).sum()
    total = total + success_log_prob(logits[:, None], torch.tensor([0.0, 1.0, 1.0]), lapse=0.1).sum()
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(logits.grad).all()


# -- gradients


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape)).requires_grad_(True)


@pytest.mark.parametrize("lapse", [0.0, 0.1])
def test_gradients_equal_finite_differences(lapse: float) -> None:
    ranks = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 2], [0, 0, 0, 0], [0, 1, -1, -1], [0, 1, 1, 1], [1, 0, 2, -1]])
    gradcheck = torch.autograd.gradcheck
    assert gradcheck(lambda x: ranking_log_prob(x, ranks, None, lapse), numbers(6, 4))
    assert gradcheck(lambda x, tie: ranking_log_prob(x, ranks, tie, lapse), (numbers(6, 4), numbers(6)))
    rating = torch.tensor([0, 1, 2, 3, 1])
    assert gradcheck(
        lambda x, raw: rating_log_prob(x, rating, ordered_cuts(raw)[:, None], lapse), (numbers(2, 5), numbers(2, 3))
    )
    marks = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    assert gradcheck(lambda x: success_log_prob(x, marks, lapse=lapse), numbers(2, 5, 6))
    value = numbers(5).detach()
    assert gradcheck(
        lambda x, a, b, s: reward_log_prob(x, value, a, b, s, lapse),
        (numbers(2, 5), *(numbers(2, 1) for _ in range(3))),
    )
