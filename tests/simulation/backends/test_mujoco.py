import numpy as np
import pytest

from rlhf_control.errors import NonFiniteError, UserError
from rlhf_control.simulation.backends.mujoco import MujocoBackend


def test_only_tasks_that_are_batched() -> None:
    with pytest.raises(UserError, match="CartPole-v1 has no batched version"):
        MujocoBackend("CartPole-v1", 2, {})


def test_what_diverges_is_named_by_the_number_it_has_among_all() -> None:
    backend = MujocoBackend("HalfCheetah-v5", 2, {}, first=4)
    backend.reset(0)
    backend.vector._sim.qvel[1] = np.inf
    with pytest.raises(NonFiniteError, match="environment 5"):
        backend.step(np.zeros((2, 6), np.float32))
    backend.close()


def test_it_does_not_draw() -> None:
    backend = MujocoBackend("HalfCheetah-v5", 1, {})
    assert not backend.draws and backend.drawn_whole("HalfCheetah-v5", {})
    with pytest.raises(UserError, match="do not draw themselves"):
        backend.picture(0)
    backend.close()


def test_what_stays_unhealthy_is_cut_off_and_goes_on_as_kept() -> None:
    """Without actions a Hopper falls: cut off as many steps later as said, not terminated, and only where it lies."""
    backend, other = (MujocoBackend("Hopper-v5", 3, {"terminate_when_unhealthy": False}) for _ in range(2))
    for made in (backend, other):
        made.cut_off_after = 20
        made.reset(0)
    backend.vector._sim.qpos[1:, 1] += 50.0  # high above the floor, where it is healthy
    still, began, kept, t = np.zeros((3, 3), np.float32), 0, {}, 0
    while True:
        kept = backend.state() if t == 10 else kept
        obs, _, terminated, truncated, last, *_ = backend.step(still)
        t += 1
        assert not terminated.any() and t < 300
        if truncated.any():
            break
        began = 0 if not backend.vector.unhealthy()[0] else began or t
    assert began and t == began + 19, "twenty steps, the first of them the one that ended unhealthy"
    assert truncated.tolist() == [True, False, False] and last is not None and obs[0][0] > last[0][0]
    other.load_state(kept)
    for _ in range(10, t):
        again = other.step(still)
    np.testing.assert_array_equal(again[0], obs)
    np.testing.assert_array_equal(again[3], truncated)
    for made in (backend, other):
        made.close()


def test_a_task_without_early_ends_is_never_unhealthy() -> None:
    backend = MujocoBackend("HalfCheetah-v5", 2, {})
    backend.reset(0)
    assert not backend.vector.unhealthy().any()
    backend.close()
