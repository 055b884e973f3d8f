"""A learned reward inside a Gymnasium environment, for learners that know nothing of preferences.

The project's own loop replaces the reward on finished rollouts and needs none of this.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.reward.model import RewardModel, check_env
from rlhf_control.runs.files import refuse_module
from rlhf_control.simulation.foreign import check_env_id, lent
from rlhf_control.spaces import Spaces, sampled


class LearnedRewardWrapper(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Puts the model's reward in place of the environment's, which stays in `info["env_reward"]`.

    The model sees what it was trained on: raw flat observations and the action as carried out (clipped to a Box's
    bounds, one-hot for Discrete); so this goes under wrappers that change observations or actions, and above those
    that the policy was fine-tuned with. Raises UserError for spaces that are not the model's.
    """

    def __init__(self, env: gymnasium.Env, model: RewardModel) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, model=model)  # so that `gymnasium.make` can make it again
        gymnasium.Wrapper.__init__(self, env)
        self.model = model
        self.spaces = matching_spaces(env.observation_space, env.action_space, model, id_of(env))
        self._obs = np.zeros((1, self.spaces.obs_size), self.spaces.obs_dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = self.spaces.flat(np.asarray([obs]))
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        choice = sampled(self.action_space, action, 1)
        obs, env_reward, terminated, truncated, info = self.env.step(lent(action))
        before, self._obs = self._obs, self.spaces.flat(np.asarray([obs]))
        reward = learned_reward(self.model, self.spaces, before, choice, self._obs)
        return obs, float(reward[0]), terminated, truncated, {**info, "env_reward": env_reward}


class LearnedRewardVectorWrapper(VectorWrapper):
    """Does the same for a vector environment, in every autoreset mode: an episode's last reward is of the true
    successor, and a step that only resets (NEXT_STEP) is worth 0. Raises UserError if the environment does not say its
    mode."""

    def __init__(self, env: VectorEnv, model: RewardModel) -> None:
        super().__init__(env)
        self.model = model
        spaces = env.single_observation_space, env.single_action_space
        self.spaces = matching_spaces(*spaces, model, id_of(env))
        try:
            self.mode = AutoresetMode(env.metadata.get("autoreset_mode"))
        except ValueError:
            raise UserError(f"{env} does not say how it resets (metadata has no autoreset_mode)") from None
        self._obs = np.zeros((env.num_envs, self.spaces.obs_size), self.spaces.obs_dtype)
        self._resetting = np.zeros(env.num_envs, bool)  # whose next step ignores the action

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = self.spaces.flat(np.asarray(obs))
        self._resetting = np.zeros(self.num_envs, bool)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        choices = sampled(self.single_action_space, actions, self.num_envs)
        obs, env_reward, terminated, truncated, info = self.env.step(lent(actions))
        done = np.asarray(terminated) | np.asarray(truncated)
        before, self._obs = self._obs, self.spaces.flat(np.asarray(obs))
        successor = self._obs
        if self.mode == AutoresetMode.SAME_STEP and done.any():
            successor = successor.copy()
            successor[done] = np.concatenate([self.spaces.flat(np.asarray([o])) for o in info["final_obs"][done]])
        reward = learned_reward(self.model, self.spaces, before, choices, successor)
        reward = np.where(self._resetting, 0.0, reward)
        self._resetting = done & (self.mode == AutoresetMode.NEXT_STEP)
        everybody = np.ones(self.num_envs, bool)
        return obs, reward, terminated, truncated, {**info, "env_reward": env_reward, "_env_reward": everybody}


def learned_reward_env(config: Mapping[str, Any]) -> gymnasium.Env:
    """Makes an environment with a learned reward from plain values, as an RLlib config keeps them: an environment
    creator for `ray.tune.register_env`. Of `env_config` it reads `reward`, the path of a reward.npz (in full: Ray's
    workers have other folders); `env_id` (default: the reward's own); and `env`, arguments of `gymnasium.make`. Raises
    UserError for other keys, and for spaces that are not the model's."""
    known = {"reward", "env_id", "env"}
    if unknown := sorted(set(config) - known):
        raise unknown_name("key of env_config", unknown[0], known)
    if "reward" not in config:
        raise UserError("env_config has no 'reward'; give the path of a run's reward.npz")
    model = RewardModel.load(config["reward"])
    refuse_module(model.env_id, config["reward"], config.get("env_id", ""))
    env_id = config.get("env_id") or model.env_id
    if not env_id:
        raise UserError(f"{config['reward']} does not say its environment; add 'env_id' to env_config")
    check_env_id(env_id)
    return LearnedRewardWrapper(gymnasium.make(env_id, **config.get("env", {})), model)


def id_of(env: gymnasium.Env | VectorEnv) -> str:
    """Returns the environment's id; empty where it has none."""
    return env.spec.id if env.spec is not None else ""


def matching_spaces(observation: gymnasium.Space, action: gymnasium.Space, model: RewardModel, env_id: str) -> Spaces:
    """Raises UserError if a reward model is for another environment or other spaces."""
    check_env(model, env_id)
    spaces = Spaces.of(observation, action)
    if (spaces.obs_size, spaces.executed_size) != (model.obs_size, model.action_size):
        raise UserError(
            f"the reward model is for observations of {model.obs_size} and actions of {model.action_size} numbers; the "
            f"environment has {spaces}"
        )
    return spaces


def learned_reward(model: RewardModel, spaces: Spaces, obs: Array, actions: Array, next_obs: Array) -> Array:
    """Returns rewards (N,) float64 for sampled actions (N, A) or choices (N, G). Raises UserError before the model's
    first fit."""
    if not model.fitted:
        raise UserError("the reward model is not fitted yet: it would say 0 at every step; fit it, or load one that is")
    steps = Segments(obs, spaces.execute(actions), next_obs, np.zeros(len(obs), np.float32))
    return model.predict(steps).astype(np.float64)
