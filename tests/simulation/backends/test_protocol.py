"""Both backends do what the protocol says; what is theirs alone is beside."""

import numpy as np
import pytest

from rlhf_control.simulation.backends.protocol import Backend
from rlhf_control.simulation.make import BACKENDS, make_backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return make_backend("Hopper-v5", 3, 5, request.param, {"max_episode_steps": 4})


def test_steps_states_and_ends(backend: Backend) -> None:
    first = backend.reset(5)
    assert first.shape == (3, 11) and backend.step_seconds == pytest.approx(0.008)
    states = backend.states()
    assert states is not None and states.shape == (3, 12)
    for t in range(4):
        obs, reward, terminated, truncated, last = backend.step(np.zeros((3, 3), np.float32))
        assert obs.shape == (3, 11) and reward.shape == (3,) and not terminated.any()
        assert truncated.all() == (t == 3) == (last is not None)
    assert last is not None and all((a != b).any() for a, b in zip(last, obs, strict=True))
    backend.close()


def test_what_was_left_goes_on_equally(backend: Backend) -> None:
    backend.reset(5)
    backend.step(np.full((3, 3), 0.5, np.float32))
    state = backend.state()
    assert "inner" in state and backend.probe() == ""
    expected = backend.step(np.full((3, 3), -0.5, np.float32))[0]
    backend.reset(6)
    backend.load_state(state)
    np.testing.assert_array_equal(backend.step(np.full((3, 3), -0.5, np.float32))[0], expected)
    backend.close()
