"""How far annotators agree: by hand, and against what makes their answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, Feedback
from rlhf_control.feedback.agreement import (
    cohen_kappa,
    error_rate,
    fleiss_kappa,
    judgements,
    quartiles,
    wilson_interval,
)
from rlhf_control.feedback.schema import Asked


def test_cohen_kappa_by_hand() -> None:
    """20 times both A, 15 times both B, 15 times different: 0.7 observed; 0.5 * 0.6 + 0.5 * 0.4 = 0.5 expected."""
    a = ["A"] * 25 + ["B"] * 25
    b = ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa([0, 1], [0, 1]) == 1 and cohen_kappa([0, 1], [1, 0]) == -1
    assert cohen_kappa([0, 0], [0, 0]) is None


def test_fleiss_kappa_by_hand() -> None:
    """Three annotators, four items: P = (1, 1, 1/3, 1/3), mean 2/3; shares 7/12 and 5/12, expected 74/144."""
    counts = np.array([[3, 0], [0, 3], [2, 1], [2, 1]])
    assert fleiss_kappa(counts) == pytest.approx((2 / 3 - 74 / 144) / (1 - 74 / 144))
    assert fleiss_kappa(np.array([[3, 0], [0, 2]])) == 1 and fleiss_kappa(np.array([[3, 0], [2, 0]])) is None


def test_fleiss_kappa_of_many_categories() -> None:
    """The example that is worked in Wikipedia's article on it: ten items, fourteen annotators, 0.210."""
    counts = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


def test_wilson_interval_by_hand() -> None:
    """8 of 10: (8 + 1.92 -+ 1.96 sqrt(1.6 + 0.96)) / 13.84."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)


@given(st.integers(1, 1000), st.data())
def test_wilson_interval_holds_the_share(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson_interval(k, n)
    assert 0 <= low <= k / n + 1e-12 and k / n - 1e-12 <= high <= 1
    mirrored = wilson_interval(n - k, n)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


@given(st.floats(0, 0.5))
def test_error_rate_undoes_two_independent_answers(e: float) -> None:
    assert error_rate(2 * e * (1 - e)) == pytest.approx(e, abs=1e-7)
    assert error_rate(0.9) == 0.5


def test_quartiles() -> None:
    assert quartiles([4, 1, 3, 2, 5]) == {"answers": 5, "lower_quartile": 2, "median": 3, "upper_quartile": 4}
    assert quartiles([]) is None


def test_judgements_do_not_depend_on_the_order_of_the_clips() -> None:
    def asked(kind: str, *clips: str) -> Asked:
        return Asked("key", kind, 0, 0, 0, "uniform", 1, None, None, 0.0, clips)

    assert judgements(asked(COMPARISON, "a", "b"), Feedback((0, 1), "me")) == {("a", "b"): -1}
    assert judgements(asked(COMPARISON, "b", "a"), Feedback((1, 0), "me")) == {("a", "b"): -1}
    assert judgements(asked(COMPARISON, "b", "a"), Feedback(None, "me")) == {("a", "b"): "cannot tell"}
    assert judgements(asked(RANKING, "c", "a", "b"), Feedback((0, 1, 1), "me")) == {
        ("a", "b"): 0, ("a", "c"): 1, ("b", "c"): 1,
    }  # fmt: skip
    assert judgements(asked(RATING, "a"), Feedback(None, "me", value=3.0)) == {("a",): 3.0}
    assert judgements(asked("reward", "a"), Feedback(None, "me", value=3.0)) == {}


def test_both_groups_are_one_item_whatever_order_they_stood_in() -> None:
    def asked(*clips: str) -> Asked:
        return Asked("key", GROUPS, 0, 0, 0, "uniform", 1, None, None, 0.0, clips)

    (item, judgement), *others = judgements(asked("d", "c", "b", "a"), Feedback((0, 0, 1, 1), "me")).items()
    assert item == ("a b", "c d") and judgement == 1 and not others
    assert judgements(asked("a", "b", "c", "d"), Feedback((1, 1, 0, 0), "me")) == {item: 1}
    assert judgements(asked("a", "b", "c", "d"), Feedback((0,) * 4, "me")) == {item: 0}
