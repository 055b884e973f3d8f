"""RLlib's PPO on a learned reward."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control import learned_reward_env
from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.reward.model import RewardModel, comparisons

ray: Any = pytest.importorskip("ray")


def likes_to_push(path: Path) -> RewardModel:
    """A reward of Pendulum that was learned to like a large torque, of which the environment's own knows nothing."""
    rng = np.random.default_rng(0)

    def clips(*shape: int) -> Segments:
        obs = rng.uniform(-1, 1, (*shape, 11, 3)).astype(np.float32)
        action = rng.uniform(-2, 2, (*shape, 1, 1)) + rng.normal(0, 0.3, (*shape, 10, 1))
        action = action.clip(-2, 2).astype(np.float32)
        return Segments(obs[..., :-1, :], action, obs[..., 1:, :], np.zeros((*shape, 10), np.float32))

    pairs = clips(200, 2)
    means = pairs.action.mean((-1, -2))
    config = RewardConfig(members=2, hidden=(16,), bootstrap=0.5, steps=300)
    model = RewardModel(3, 1, config, "Pendulum-v1")
    model.fit(comparisons(pairs, (means[:, 0] > means[:, 1]).astype(np.float32)), clips(50), rng)
    model.save(path)
    return model


@pytest.fixture
def algorithm(tmp_path: Path) -> Any:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune import register_env

    likes_to_push(tmp_path / "reward.npz")
    register_env("learned", learned_reward_env)
    config = (
        PPOConfig()
        .environment("learned", env_config={"reward": str(tmp_path / "reward.npz")})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=1600, minibatch_size=200, num_epochs=8, lr=1e-3, gamma=0.9)
        .debugging(seed=0)
    )
    made = config.build_algo()
    yield made
    made.stop()
    ray.shutdown()


def test_rllib_learns_what_was_preferred(algorithm: Any) -> None:
    """Returns rise to those of the largest torque at every step, which Pendulum's own reward would punish."""
    returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(8)]
    assert returns[0] < 60  # of 200 steps, each about 0 +- 1 on the steps that it was fitted on
    assert returns[-1] > returns[0] + 60
