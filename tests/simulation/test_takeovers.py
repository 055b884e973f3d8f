from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.simulation.takeovers import cut, stretches


@given(st.lists(st.booleans(), max_size=40))
def test_stretches_are_the_runs_of_steps_that_were_taken_over(taken: list[bool]) -> None:
    found = stretches(taken)
    assert sorted(i for stretch in found for i in stretch) == np.flatnonzero(taken).tolist()
    assert all(len(stretch) > 0 for stretch in found)
    assert all(a.stop < b.start for a, b in pairwise(found))  # or they were one


@pytest.mark.parametrize(
    ("stretch", "pieces"),
    [
        (range(20, 30), [(20, 30)]),
        (range(20, 50), [(20, 30), (30, 40), (40, 50)]),
        (range(20, 43), [(20, 30), (30, 40), (33, 43)]),  # the last one ends where it does
        (range(20, 24), [(14, 24)]),  # the policy's own steps come before
        (range(3, 6), [(0, 6)]),  # as far back as the episode goes
        (range(0, 12), [(0, 10), (2, 12)]),
    ],
)
def test_pieces_by_hand(stretch: range, pieces: list[tuple[int, int]]) -> None:
    assert [(piece.start, piece.stop) for piece in cut(stretch, 10)] == pieces
