"""Fixtures that several test files use."""

import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PPOConfig, RewardConfig
from rlhf_control.data import Rollout, Segments
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.vector import start_envs
from tests import jitter
from tests.match_env import Match

settings.register_profile(
    "suite", deadline=None, derandomize=True, max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("suite")

if jitter.KERNEL:
    jitter.switch_on()

gymnasium.register("Match-v0", Match, max_episode_steps=8)

TINY_PPO = PPOConfig(num_envs=4, num_steps=40, minibatch_size=32, epochs=2)
TINY_REWARD = RewardConfig(steps=50, hidden=(16,), members=2, bootstrap=0.5)


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def cheetah_policy() -> Policy:
    """An untrained HalfCheetah policy with small networks."""
    envs = start_envs("HalfCheetah-v5", 1, seed=0)
    policy = Policy(envs.spaces, NetConfig(hidden=(16,)), 0, "HalfCheetah-v5", {})
    policy.obs_norm.update(np.random.default_rng(0).normal(size=(100, 17)))
    return policy


@pytest.fixture
def tiny_config(tmp_path: Path, cheetah_policy: Policy) -> FinetuneConfig:
    """A fine-tuning run of eight iterations with the preference loop on. Its few answers show nothing of the reward."""
    cheetah_policy.save(tmp_path / "start.npz")
    return FinetuneConfig(
        str(tmp_path / "start.npz"), labels=12, first_labels=6, rounds=3, total_steps=8 * 160, clip_seconds=0.5,
        out=str(tmp_path / "run"), checkpoint_seconds=0, video=False, ppo=TINY_PPO, reward=TINY_REWARD,
        guard=GuardConfig(chance="off"),
    )  # fmt: skip


def random_rollout(rng: np.random.Generator, T: int = 20, N: int = 3, ends: float = 0.1) -> Rollout:
    """A rollout of noise with episodes that end here and there; next_obs follows obs within an episode."""
    obs = rng.normal(size=(T, N, 17)).astype(np.float32)
    ended = rng.random((T, N)) < ends
    terminated = ended & (rng.random((T, N)) < 0.5)
    next_obs = np.concatenate([obs[1:], rng.normal(size=(1, N, 17)).astype(np.float32)])
    next_obs[ended] = rng.normal(size=(int(ended.sum()), 17))
    action = rng.normal(size=(T, N, 6)).astype(np.float32)
    reward = rng.normal(size=(T, N)).astype(np.float32)
    return Rollout.of(
        obs=obs, action=action, executed=np.clip(action, -1, 1), next_obs=next_obs, env_reward=reward, reward=reward,
        terminated=terminated, truncated=ended & ~terminated, state=rng.normal(size=(T, N, 18)),
    )  # fmt: skip


def random_segments(rng: np.random.Generator, *shape: int) -> Segments:
    """Clips of noise with leading dimensions `shape`, the last of them time."""
    return Segments(
        rng.normal(size=(*shape, 17)).astype(np.float32),
        rng.uniform(-1, 1, size=(*shape, 6)).astype(np.float32),
        rng.normal(size=(*shape, 17)).astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        rng.normal(size=(*shape, 18)),
    )
