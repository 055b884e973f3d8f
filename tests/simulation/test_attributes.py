from types import SimpleNamespace

import numpy as np

from rlhf_control.simulation.attributes import put, read


def test_numbers_come_back_with_their_types() -> None:
    held = np.zeros(2)
    one = SimpleNamespace(
        goal=np.array([1.5, -2]), count=3, far=True, scale=0.25, small=np.float32(0.5), name="x", tasks=[1], none=None,
        table=np.zeros(65), readonly=np.frombuffer(np.float64(7).tobytes()), _np_random_seed=5,
    )  # fmt: skip
    two = SimpleNamespace(**{**vars(one), "goal": held, "count": 0, "far": False, "scale": 0.0, "small": np.float32(0)})
    put(two, read(one))
    assert two.goal is held and held.tolist() == [1.5, -2], "in its place"
    assert (two.count, two.far, two.scale, two.small) == (3, True, 0.25, 0.5)
    assert [type(v) for v in (two.count, two.far, two.scale, two.small)] == [int, bool, float, np.float32]


def test_what_is_no_such_number_now_stays() -> None:
    numbers = read(SimpleNamespace(goal=np.ones(2), count=1, gone=1.0))
    env = SimpleNamespace(goal=np.zeros(3), count=None, other=0.5)
    put(env, numbers)
    put(env, np.array([1.0, 5.0, 2.0]))  # cut off
    assert env.goal.tolist() == [0, 0, 0] and env.count is None and env.other == 0.5
