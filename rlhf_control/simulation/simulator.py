"""One environment put into a stored state and stepped from there.

n states, m actions each, D numbers of a state.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np

from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.mujoco_states import MujocoReader, is_own, put_back
from rlhf_control.simulation.states import has_mujoco_data
from rlhf_control.spaces import packing

PROBED = 5  # steps
INSTEAD = ", so there are no corrections; leave them out of --feedback"


def simulated(env_id: str, env: Mapping[str, Any], points: Segments, actions: Array) -> tuple[Segments, Array] | None:
    """Steps the simulator from the states of `points` (n,) by actions (n, m, A), and returns the transitions (n, m) and
    the states (n, m, D) they end in; None where the environment is not all in its state."""
    if points.state is None:
        return None
    try:
        check_simulator(env_id, env)
        simulator = Simulator(env_id, env)
    except UserError:
        return None
    n, m = actions.shape[:2]
    next_obs = np.empty((n, m, points.obs.shape[-1]), points.obs.dtype)
    after: list[Array] = []
    with closing(simulator):
        for i, j in np.ndindex(n, m):
            simulator.put(points.state[i])
            next_obs[i, j] = simulator.step(actions[i, j].reshape(simulator.env.action_space.shape))[0]
            after.append(simulator.read()[0])
    states, *ends = widened([np.repeat(points.state[:, None], m, 1), *after])
    obs = np.repeat(points.obs[:, None], m, 1)
    unpaid = np.full((n, m), np.nan, np.float32)
    return Segments(obs, actions, next_obs, unpaid, states), np.stack(ends).reshape(n, m, -1)


class Simulator:
    """One bare environment, without a time limit, that can be put into a state. Raises UserError where none can."""

    def __init__(self, env_id: str, env: Mapping[str, Any]) -> None:
        self.env_id, self.env = env_id, make_env(env_id, env).bare()
        if not has_mujoco_data(self.env):
            self.close()
            raise UserError(f"{self._refusal()} (it is no MuJoCo environment){INSTEAD}")
        self.env.reset(seed=0)
        self.read = MujocoReader([self.env])
        self.pack = packing(self.env.observation_space)[1]

    def put(self, state: Array) -> None:
        put_back(self.env, state, self.read.origin)

    def step(self, action: Array) -> tuple[Array, float, bool]:
        """Observation (O,), reward and whether the task ended after an action of the action space's shape."""
        seen, reward, terminated, _, _ = self.env.step(action)
        return self.pack(seen), reward, terminated

    def close(self) -> None:
        self.env.close()

    def _refusal(self) -> str:
        return f"{self.env_id} cannot be put back to where a clip began"


def check_simulator(env_id: str, env: Mapping[str, Any]) -> None:
    """Raises UserError for an environment that is not all in its state: one in which the same actions lead elsewhere
    after another one has been brought to the same state."""
    one, two = Simulator(env_id, env), Simulator(env_id, env)
    one.env.reset(seed=1)
    one.env.action_space.seed(0)
    actions = [one.env.action_space.sample() for _ in range(2 * PROBED)]
    for action in actions[:PROBED]:
        one.step(action)
    two.env.reset(seed=2)
    try:
        two.put(one.read()[0])
        for action in () if is_own(one.env) else actions[PROBED:]:
            (obs, reward, _), (again, rewarded, _) = one.step(action), two.step(action)
            if not (np.allclose(again, obs, 1e-2, 2e-3) and np.isclose(rewarded, reward, 1e-2, 0.02)):
                what = f"reward is {rewarded:.4g}, not {reward:.4g}"
                if not np.allclose(again, obs, 1e-2, 2e-3):
                    i = int(np.argmax(np.abs(again - obs)))
                    what = f"observation {i} is {again[i]:.4g}, not {obs[i]:.4g}"
                raise UserError(f"{one._refusal()} (something beside the simulator counts: the {what}){INSTEAD}")
    finally:
        one.close()
        two.close()
