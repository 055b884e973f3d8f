import numpy as np
import pytest

from rlhf_control.errors import UserError
from rlhf_control.simulation.backends.gymnasium import GymnasiumBackend
from rlhf_control.simulation.replayable import Replayable


def test_every_environment_can_be_brought_back() -> None:
    backend = GymnasiumBackend("CartPole-v1", 2, {})
    assert all(isinstance(env, Replayable) for env in backend.envs) and len(backend.envs) == 2
    backend.close()


def test_one_that_does_not_come_back_is_said() -> None:
    backend = GymnasiumBackend("CartPole-v1", 1, {})
    backend.reset(0)
    backend.step(np.zeros(1, np.int64))
    state = backend.state()
    state["inner"]["0"]["rewards"] = np.array([7.0])
    with pytest.raises(UserError, match="the rewards are others"):
        backend.load_state(state)
    backend.close()


def test_a_picture_is_rendered_or_refused_in_one_line() -> None:
    drawing = GymnasiumBackend("CartPole-v1", 1, {"render_mode": "rgb_array"})
    drawing.reset(0)
    assert drawing.draws and drawing.picture(0).shape == (400, 600, 3)
    drawing.close()
    silent = GymnasiumBackend("CartPole-v1", 1, {})
    silent.reset(0)
    with pytest.raises(UserError):
        silent.picture(0)
    silent.close()
