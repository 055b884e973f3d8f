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
