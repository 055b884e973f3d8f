import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs as project_envs
from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.interop.reward_wrappers import LearnedRewardVectorWrapper, LearnedRewardWrapper, learned_reward_env
from rlhf_control.reward.model import RewardModel, comparisons
from tests.conftest import random_segments

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]


class Countdown(gymnasium.Env):
    """Observes (episode, step); ends after `length` steps. The reward is 100 times the step. Bounds of 1 on actions."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length: int = 3) -> None:
        self.length, self.episode, self.steps = length, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        return np.array([self.episode, float(self.steps)]), 100.0 * self.steps, self.steps == self.length, False, {}


class SumOfAll(RewardModel):
    """obs + 10 * action + 1000 * next_obs, of the second number of an observation; NaN from one episode to another."""

    def predict(self, steps: Any) -> np.ndarray:
        reward = steps.obs[..., 1] + 10 * steps.action[..., 0] + 1000 * steps.next_obs[..., 1]
        return np.where(steps.obs[..., 0] == steps.next_obs[..., 0], reward, np.nan)


def planted_model(column: int = 0) -> RewardModel:
    """Fitted to like the action's first number."""
    rng = np.random.default_rng(0)
    pairs = random_segments(rng, 60, 2, 20)
    means = pairs.action[..., column].mean(-1)
    model = RewardModel(17, 6, RewardConfig(members=2, hidden=(16,), bootstrap=0.5, steps=200))
    model.fit(comparisons(pairs, (means[:, 0] > means[:, 1]).astype(np.float32)), random_segments(rng, 30, 20), rng)
    return model


def sum_of_all() -> RewardModel:
    model = SumOfAll(2, 1, RewardConfig(members=1))
    model.fitted = True
    return model


def test_the_models_reward_takes_the_environments_place() -> None:
    env = LearnedRewardWrapper(Countdown(), sum_of_all())
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([0.5], np.float32))
    assert reward == 0 + 5 + 1000 and info["env_reward"] == 100
    _, reward, _, _, info = env.step(np.array([7.0], np.float32))  # carried out as 1
    assert reward == 1 + 10 + 2000 and info["env_reward"] == 200
    assert isinstance(reward, float)


@pytest.mark.parametrize("mode", MODES)
def test_vector_environments_in_every_autoreset_mode(mode: AutoresetMode) -> None:
    """Two environments of different lengths: each reward is of a step within one episode, the last one included, or
    0 where nothing was done."""
    vector = SyncVectorEnv([lambda: Countdown(2), lambda: Countdown(3)], autoreset_mode=mode)
    env = LearnedRewardVectorWrapper(vector, sum_of_all())
    env.reset(seed=0)
    rewards, true = [], []
    for _ in range(5):
        _, reward, terminated, truncated, info = env.step(np.full((2, 1), 0.5, np.float32))
        rewards.append(reward)
        true.append(info["env_reward"])
        if mode == AutoresetMode.DISABLED and terminated.any():
            env.reset(options={"reset_mask": terminated | truncated})
    first, second, third = 1005, 2006, 3007
    short, long = np.array(rewards).T.tolist()
    if mode == AutoresetMode.NEXT_STEP:
        assert short == [first, second, 0, first, second] and long == [first, second, third, 0, first]
    else:
        assert short == [first, second, first, second, first] and long == [first, second, third, first, second]
    assert np.array(true).T[0].tolist() == [100 * (r // 1000) for r in short]


def test_a_model_for_another_environment_is_refused() -> None:
    """Even where the sizes are the same."""
    model = RewardModel(17, 6, RewardConfig(members=1), "Walker2d-v5")
    with pytest.raises(UserError, match=r"for Walker2d-v5, not for HalfCheetah-v5"):
        LearnedRewardWrapper(gymnasium.make("HalfCheetah-v5"), model)
    with pytest.raises(UserError, match=r"for Walker2d-v5, not for HalfCheetah-v5"):
        LearnedRewardVectorWrapper(project_envs.MujocoVectorEnv("HalfCheetah-v5", 2), model)
    LearnedRewardWrapper(gymnasium.make("Walker2d-v5"), model)


def test_the_projects_own_vector_environments() -> None:
    model = planted_model()
    env = LearnedRewardVectorWrapper(project_envs.MujocoVectorEnv("Hopper-v5", 3), RewardModel(11, 3, RewardConfig()))
    env.reset(seed=0)
    with pytest.raises(UserError, match="not fitted yet"):
        env.step(np.zeros((3, 3), np.float32))
    batched = LearnedRewardVectorWrapper(project_envs.MujocoVectorEnv("HalfCheetah-v5", 2), model)
    single = LearnedRewardWrapper(gymnasium.make("HalfCheetah-v5"), model)
    batched.reset(seed=4)
    single.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(10):
        actions = rng.uniform(-2, 2, (2, 6)).astype(np.float32)
        many, one = batched.step(actions), single.step(actions[0])
        assert many[1][0] == pytest.approx(one[1], abs=1e-5)
        assert many[4]["env_reward"][0] == pytest.approx(one[4]["env_reward"])


def test_discrete_actions_are_one_hot_to_the_model() -> None:
    model = RewardModel(4, 2, RewardConfig(members=2, bootstrap=0.5, steps=100))
    rng = np.random.default_rng(0)

    def clips(*shape: int) -> Segments:
        s = random_segments(rng, *shape)
        return Segments(
            s.obs[..., :4] / 10, np.eye(2, dtype=np.float32)[rng.integers(2, size=shape)], s.obs[..., :4], s.env_reward
        )

    pairs = clips(60, 2, 10)
    means = pairs.action[..., 1].mean(-1)
    target = np.where(means[:, 0] == means[:, 1], 0.5, means[:, 0] > means[:, 1])
    model.fit(comparisons(pairs, target), clips(30, 10), rng)
    rewards = []
    for action in (0, 1):
        env = LearnedRewardWrapper(gymnasium.make("CartPole-v1"), model)
        env.reset(seed=0)
        rewards.append(env.step(action)[1])
    assert rewards[1] > rewards[0] + 0.5


def test_spaces_of_another_model_are_refused() -> None:
    with pytest.raises(UserError, match="observations of 17 and actions of 6 numbers; the environment has"):
        LearnedRewardWrapper(gymnasium.make("Hopper-v5"), planted_model())
    vector = SyncVectorEnv([Countdown])
    vector.metadata = {}
    with pytest.raises(UserError, match="does not say how it resets"):
        LearnedRewardVectorWrapper(vector, sum_of_all())


def test_gymnasiums_own_check_passes() -> None:
    env = LearnedRewardWrapper(gymnasium.make("HalfCheetah-v5").unwrapped, planted_model())
    with warnings.catch_warnings():  # it prefers bare environments, and bounded observations
        warnings.filterwarnings("ignore", message=".*(unwrapped version|Box observation space)")
        check_env(env, skip_render_check=True)


def test_stable_baselines3_learns_on_it() -> None:
    """PPO from somewhere else, on a reward for the action's first number: that number rises, and so does the reward."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env as check_sb3

    env = LearnedRewardWrapper(gymnasium.make("HalfCheetah-v5", max_episode_steps=100), planted_model())
    check_sb3(env, warn=False)
    model = PPO(
        "MlpPolicy", env, n_steps=256, batch_size=64, n_epochs=10, learning_rate=2e-3, gamma=0.5, seed=0, device="cpu"
    )
    obs = np.random.default_rng(0).normal(size=(50, 17)).astype(np.float32)
    before = model.predict(obs, deterministic=True)[0][:, 0].mean()
    model.learn(256)
    early = np.mean([episode["r"] for episode in model.ep_info_buffer or []])
    model.learn(2560)
    late = [episode["r"] for episode in list(model.ep_info_buffer or [])[-5:]]
    after = model.predict(obs, deterministic=True)[0][:, 0].mean()
    assert after > before + 0.3 and np.mean(late) > early + 20


def test_an_environment_from_plain_values(tmp_path: Path) -> None:
    model, path = planted_model(), str(tmp_path / "reward.npz")
    model.env_id = "HalfCheetah-v5"
    model.save(path)
    env = learned_reward_env({"reward": path, "env": {"max_episode_steps": 3}})
    env.reset(seed=0)
    rewards = [env.step(np.full(6, value, np.float32))[1] for value in (1.0, -1.0)]
    assert rewards[0] > rewards[1] + 0.5 and env.step(np.zeros(6, np.float32))[3]
    env.close()
    for config, said in (
        ({"rewards": path}, "did you mean reward"), ({}, "no 'reward'"), ({"reward": path + "2"}, "does not exist"),
        ({"reward": path, "env_id": "Hopper-v5"}, "HalfCheetah-v5, not for Hopper-v5"),
        ({"reward": path, "env_id": "HalfCheetah-v6"}, "unknown environment"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            learned_reward_env(config)
    model.env_id = "no_such_module:Mine-v0"
    model.save(path)
    with pytest.raises(UserError, match="would import no_such_module"):
        learned_reward_env({"reward": path})
    model.env_id = ""
    model.save(path)
    with pytest.raises(UserError, match="does not say its environment"):
        learned_reward_env({"reward": path})
