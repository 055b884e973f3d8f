import numpy as np

from rlhf_control.viewer.watch.curves import at_cursor, span


def test_curves_share_one_scale() -> None:
    assert span([np.array([0.0, 2.0]), None, np.array([-1.0])]) == (-1.0, 2.0)
    assert span([np.array([3.0, 3.0])]) == (2.5, 3.5)
    assert span([None]) == (-1.0, 1.0)


def test_the_value_at_the_cursor_lies_between_two_steps() -> None:
    curve = np.array([0.0, 2.0, 4.0, 6.0])
    assert [at_cursor(curve, share) for share in (0.0, 0.125, 0.25, 0.5, 1.0)] == [0.0, 0.0, 1.0, 3.0, 6.0]
