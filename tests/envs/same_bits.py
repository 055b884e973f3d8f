"""Batched environments beside Gymnasium's single ones: both stepped, and held together bit for bit."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

STEP_PARTS = ("obs", "reward", "terminated", "truncated", "info")


def gymnasium_envs(env_id: str, num_envs: int, **options: Any) -> SyncVectorEnv:
    vector_kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    envs = gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **options)
    assert isinstance(envs, SyncVectorEnv)
    return envs


def random_actions(envs: Any, num_steps: int, scale: float, dtype: Any = np.float32) -> np.ndarray:
    """(T, n, A); with `scale` above 1 some lie outside the action space."""
    noise = np.random.default_rng(7).uniform(-1, 1, (num_steps, *envs.action_space.shape))
    return (scale * noise * envs.single_action_space.high).astype(dtype)


def assert_same_bits(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            assert_same_bits(ours[name], theirs[name], f"{where} {name}")
    elif theirs is None:
        assert ours is None, where
    elif theirs.dtype == object:
        for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert_same_bits(our, their, f"{where}[{i}]")
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        assert ours.tobytes() == theirs.tobytes(), f"{where}: {ours} is not {theirs}"


def assert_same_steps(ours: Any, theirs: Any, actions: np.ndarray) -> int:
    """Step both; return how many episodes ended."""
    ended = 0
    for t, action in enumerate(actions):
        our_step, their_step = ours.step(action), theirs.step(action)
        for name, our, their in zip(STEP_PARTS, our_step, their_step, strict=True):
            assert_same_bits(our, their, f"step {t}: {name}")
        ended += int((our_step[2] | our_step[3]).sum())
    return ended
