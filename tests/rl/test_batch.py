import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.rl.batch import minibatches


@given(st.integers(2, 70), st.integers(2, 70))
def test_minibatches_are_a_permutation_and_never_a_single_row(rows: int, size: int) -> None:
    order = minibatches(rows, min(size, rows), np.random.default_rng(0))
    assert sorted(np.concatenate(order).tolist()) == list(range(rows))
    assert min(map(len, order)) >= 2
    assert all(len(part) == min(size, rows) for part in order[:-1])
