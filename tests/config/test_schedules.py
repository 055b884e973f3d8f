from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config.schedules import WEIGHTS, apportion, schedule
from rlhf_control.errors import UserError


def test_by_hand() -> None:
    assert schedule("constant", 80, 8) == [10] * 8
    assert schedule("constant", 8, 3) == [3, 3, 2]
    assert schedule("hyperbolic", 13, 3) == [6, 4, 3]  # in proportion to 1, 2/3 and 1/2
    assert schedule("front-loaded", 111, 3) == [100, 10, 1]
    assert schedule("front-loaded", 7, 1) == [7]
    with pytest.raises(UserError, match="did you mean hyperbolic"):
        schedule("hyperbola", 10, 2)


@given(st.sampled_from(sorted(WEIGHTS)), st.integers(0, 2000), st.integers(1, 60))
def test_schedules_sum_to_the_labels_and_never_rise(name: str, labels: int, rounds: int) -> None:
    counts = schedule(name, labels, rounds)
    assert len(counts) == rounds and sum(counts) == labels
    assert all(a >= b >= 0 for a, b in pairwise(counts))


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_shares_are_within_one_of_exact(total: int, weights: list[float]) -> None:
    counts = apportion(total, weights)
    assert sum(counts) == total
    for count, w in zip(counts, weights, strict=True):
        assert abs(count - total * w / sum(weights)) < 1 + 1e-9
