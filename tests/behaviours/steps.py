"""Steps of environments, as behaviours read them."""

import numpy as np

from envs import ARMS
from rlhf_control.behaviours.ale import PONG_ID
from rlhf_control.behaviours.games import ORCHARD_ID
from rlhf_control.behaviours.locomotion import (
    CHEETAH,
)
from rlhf_control.data import Segments
from rlhf_control.simulation.vector import start_envs


def steps_of(env_id: str, steps: int) -> Segments:
    """(L, ...) of one environment under random actions."""
    own = {"num_processes": 0} if env_id == PONG_ID else {"terminate_when_unhealthy": False}
    env = {} if env_id in (CHEETAH, ORCHARD_ID, *ARMS) else own
    envs, rng = start_envs(env_id, 1, seed=0, env=env), np.random.default_rng(0)
    taken: list[Segments] = []
    for _ in range(steps):
        obs, state = envs.obs.copy(), envs.states()
        if envs.spaces.choices:
            chosen = rng.integers(envs.spaces.choices, size=(1, 1))
            action = envs.spaces.execute(chosen)
        else:
            chosen = action = rng.uniform(-1, 1, size=(1, envs.spaces.action_size)).astype(np.float32)
        next_obs, reward, _, _ = envs.step(chosen, action)
        taken.append(
            Segments(obs, action, next_obs, reward.astype(np.float32), None if state is None else state.copy())
        )
    envs.close()
    return Segments.concatenate(taken)
