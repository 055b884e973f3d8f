"""Untrained policies and clips of them."""

import numpy as np

from rlhf_control.config.policy import NetConfig
from rlhf_control.data import Segments
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs


def policy_of(env_id: str, **env: object) -> Policy:
    return Policy(start_envs(env_id, 1, seed=0, env=env).spaces, NetConfig(hidden=(16,)), 0, env_id, dict(env))


def clips_of(policy: Policy, n: int, length: int) -> Segments:
    envs = start_envs(policy.env_id, n, seed=0, env=policy.env)
    rollout = collect(envs, policy, 3 + length, np.random.default_rng(0)).as_segments()
    return Segments(**{name: array[3:].swapaxes(0, 1) for name, array in rollout.arrays().items()})
