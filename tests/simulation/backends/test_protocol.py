"""Every backend does what the protocol says; what is theirs alone is beside."""

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlhf_control.simulation.backends.protocol import Backend
from rlhf_control.simulation.make import BACKENDS, make_backend

# environment, numbers of an observation (or its shape) and of a state, seconds of a step
STEPPED: dict[str, tuple[str, int | tuple[int, ...], int, float]] = {
    "games": ("rlhf/Orchard-v0", 36, 55, 1 / 15),
    "dialogue": ("rlhf/Dialogue-v0", 56, 1, 0.1),
    "ale": ("ALE/Breakout-v5", (84, 84, 4), 259, 1 / 15),
}
FOUR_STEPS = {"ale": {"max_num_frames_per_episode": 16, "num_processes": 0}}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    env_id = STEPPED.get(request.param, ("Hopper-v5",))[0]
    return make_backend(env_id, 3, 5, request.param, FOUR_STEPS.get(request.param, {"max_episode_steps": 4}))


def action(backend: Backend, value: float) -> np.ndarray:
    """The same for all three: a force everywhere, or the choice 0 or 1, or a letter."""
    space = backend.vector.single_action_space
    if isinstance(space, Discrete):
        return np.full(3, int(value > 0) + 9 * (space.n > 100))
    return np.full((3, 3), value, np.float32)


def test_steps_states_and_ends(backend: Backend, request: pytest.FixtureRequest) -> None:
    _, obs_size, state_size, seconds = STEPPED.get(request.node.callspec.params["backend"], ("", 11, 12, 0.008))
    first, shape = backend.reset(5), (3, *np.atleast_1d(obs_size))
    assert first.shape == shape and backend.step_seconds == pytest.approx(seconds)
    states = backend.states()
    assert states is not None and states.shape == (3, state_size)
    for t in range(4):
        obs, reward, terminated, truncated, last, learned_from, over = backend.step(action(backend, 0.0))
        assert learned_from is None or np.array_equal(learned_from, reward)
        assert over is None or np.array_equal(over, terminated | truncated)
        assert obs.shape == shape and reward.shape == (3,) and not terminated.any()
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
