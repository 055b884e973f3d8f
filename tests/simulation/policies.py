"""Policies that nobody has trained."""

from rlhf_control.config import NetConfig
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.vector import start_envs


def policy_for(env_id: str, env: dict | None = None, hidden: tuple[int, ...] = (8,)) -> Policy:
    return Policy(start_envs(env_id, 1, seed=0, env=env).spaces, NetConfig(hidden, 1.0), 0, env_id, env or {})
