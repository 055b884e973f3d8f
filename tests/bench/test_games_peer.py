import numpy as np

from rlhf_control.bench.games_peer import ours


def test_ours_is_stepped_by_name() -> None:
    step, choices, dtype, known = ours("orchard-planes", 3)
    assert choices == 5 and known
    step(np.zeros(3, dtype))
