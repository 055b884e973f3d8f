"""Every backend does what the protocol says; what is theirs alone is beside."""

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlhf_control.simulation.backends.protocol import Backend
from rlhf_control.simulation.make import BACKENDS, make_backend

# environment, numbers of an observation and of a state, seconds of a step
STEPPED = {"games": ("rlhf/Orchard-v0", 36, 55, 1 / 15)}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    env_id = STEPPED.get(request.param, ("Hopper-v5",))[0]
    return make_backend(env_id, 3, 5, request.param, {"max_episode_steps": 4})


def action(backend: Backend, value: float) -> np.ndarray:
    """The same for all three: a force everywhere, or the choice 0 or 1."""
    if isinstance(backend.vector.single_action_space, Discrete):
        return np.full(3, int(value > 0))
    return np.full((3, 3), value, np.float32)


def test_steps_states_and_ends(backend: Backend, request: pytest.FixtureRequest) -> None:
    _, obs_size, state_size, seconds = STEPPED.get(request.node.callspec.params["backend"], ("", 11, 12, 0.008))
    first = backend.reset(5)
    assert first.shape == (3, obs_size) and backend.step_seconds == pytest.approx(seconds)
    states = backend.states()
    assert states is not None and states.shape == (3, state_size)
    for t in range(4):
        obs, reward, terminated, truncated, last = backend.step(action(backend, 0.0))
        assert obs.shape == (3, obs_size) and reward.shape == (3,) and not terminated.any()
        assert truncated.all() == (t == 3) == (last is not None)
    assert last is not None and all((a != b).any() for a, b in zip(last, obs, strict=True))
    backend.close()


def test_what_was_left_goes_on_equally(backend: Backend) -> None:
    backend.reset(5)
    backend.step(action(backend, 0.5))
    state = backend.state()
    assert "inner" in state and backend.probe() == ""
    expected = backend.step(action(backend, -0.5))[0]
    backend.reset(6)
    backend.load_state(state)
    np.testing.assert_array_equal(backend.step(action(backend, -0.5))[0], expected)
    backend.close()
