"""Stable-Baselines3: its PPO as a baseline, its policies in and out. The only importer of stable_baselines3.

An SB3 file is a zip. Its `data` entry and a saved VecNormalize hold pickles, which can run code when loaded.
Here only the weights in `policy.pth` are loaded, by torch's weights-only reader; `data` is looked at as JSON
text; observation statistics come from a live VecNormalize or an .npz of `mean`, `var` and `count`.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rlhf_control.compute.threads import one_thread
from rlhf_control.config import PretrainConfig
from rlhf_control.data import check_finite
from rlhf_control.errors import Stopped, UserError
from rlhf_control.interop.sb3_policies import import_sb3, policy_kwargs, sb3_envs, sb3_spaces
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.run import Run
from rlhf_control.simulation.foreign import make_env

Row = dict[str, Any]

METRICS = {  # ours: SB3's
    "policy_loss": "train/policy_gradient_loss",
    "value_loss": "train/value_loss",
    "approx_kl": "train/approx_kl",  # the mean over the last epoch; our own PPO's is over the whole update
    "clip_fraction": "train/clip_fraction",
    "explained_variance": "train/explained_variance",
    "lr": "train/learning_rate",
}


# -- the baseline


def pretrain_sb3(config: PretrainConfig, run: Run, on_row: Callable[[Row], None] | None = None) -> Policy:
    """Returns the policy that SB3's PPO learns under the same hyperparameters; rows go to the same metrics.jsonl.

    Three things stay SB3's own: environments are stepped one after another, in a DummyVecEnv; a linear
    schedule is read after the rollout, so that the last update has a rate of zero; generators are global.
    There are no checkpoints: on SIGINT or SIGTERM the policy so far is saved and Stopped is raised, for good.
    """
    return import_sb3(train_sb3(config, run, on_row), config.env_id, config.env)


def train_sb3(config: PretrainConfig, run: Run, on_row: Callable[[Row], None] | None = None) -> PPO:
    """Trains and returns the SB3 model behind `pretrain_sb3`."""
    model = make_sb3(config)
    assert model.env is not None
    steps = config.ppo.num_envs * config.ppo.num_steps
    iterations = max(1, config.total_steps // steps)  # whole ones, as in our own loop
    with closing(model.env), one_thread(), deferred_signals() as caught:
        rows = _Rows(run, on_row, caught)
        # never dumped, the logger keeps the last update's numbers for our row
        model.learn(iterations * steps, rows, log_interval=sys.maxsize)
    if rows.iteration < iterations:
        import_sb3(model, config.env_id, config.env).save(run.path / "policy.npz", config=asdict(config))
        raise Stopped(caught[0], f"the policy so far is in {run.path}; start again with another --out")
    return model


def make_sb3(config: PretrainConfig) -> PPO:
    """Makes SB3's PPO with every hyperparameter of the config, before the first step."""
    _refuse_what_sb3_lacks(config)
    ppo = config.ppo
    env: VecEnv = sb3_envs(config.env_id, config.env, ppo.num_envs)
    if config.normalize_obs or config.normalize_reward:
        env = VecNormalize(env, norm_obs=config.normalize_obs, norm_reward=config.normalize_reward, gamma=ppo.gamma)
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=LinearSchedule(ppo.lr, 0.0, 1.0) if ppo.lr_schedule == "linear" else ppo.lr,
        n_steps=ppo.num_steps,
        batch_size=ppo.minibatch_size,
        n_epochs=ppo.epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=LinearSchedule(ppo.clip, 0.0, 1.0) if ppo.clip_schedule == "linear" else ppo.clip,
        normalize_advantage=ppo.normalize_advantage,
        ent_coef=ppo.entropy_coef,
        vf_coef=ppo.value_coef,
        max_grad_norm=ppo.max_grad_norm,
        target_kl=ppo.target_kl,
        policy_kwargs=policy_kwargs(config.net),
        seed=config.seed,
        device="cpu",
    )
    model.set_logger(Logger(None, []))  # the default one would leave a folder in /tmp
    return model


class _Rows(BaseCallback):
    """Checks every step and writes one row an iteration."""

    def __init__(self, run: Run, on_row: Callable[[Row], None] | None, caught: list[int]) -> None:
        super().__init__()
        self.run, self.on_row, self.caught = run, on_row, caught
        self.iteration = 0
        self._begin()

    def _begin(self) -> None:
        self.began = time.monotonic()
        self.collected = False
        self.episodes: list[dict[str, float]] = []  # Monitor's, which stands under VecNormalize: raw returns

    def _on_step(self) -> bool:
        for field, name in (("observation", "new_obs"), ("reward", "rewards")):
            check_finite(field, self.locals[name][None], self.locals["n_steps"])
        self.episodes += [info["episode"] for info in self.locals["infos"] if "episode" in info]
        return not self.caught

    def _on_rollout_end(self) -> None:
        self.collected = True

    def _on_rollout_start(self) -> None:
        self._end_iteration()

    def _on_training_end(self) -> None:
        self._end_iteration()

    def _end_iteration(self) -> None:
        """SB3 has no hook after its update: the next rollout's start, or the end, is that moment."""
        if not self.collected:
            return
        assert isinstance(self.model, OnPolicyAlgorithm)
        values = self.logger.name_to_value
        row = {
            "iteration": self.iteration,
            "env_steps": self.num_timesteps,
            "wall_seconds": self.run.wall_seconds(),
            "env_return": float(np.mean([e["r"] for e in self.episodes])) if self.episodes else None,
            "episode_length": float(np.mean([e["l"] for e in self.episodes])) if self.episodes else None,
            "steps_per_second": self.model.n_steps * self.model.n_envs / (time.monotonic() - self.began),
            "entropy": -float(values["train/entropy_loss"]),
            **{ours: float(values[theirs]) for ours, theirs in METRICS.items()},
        }
        self.run.log(row)
        if self.on_row:
            self.on_row(row)
        self.iteration += 1
        self._begin()


def _refuse_what_sb3_lacks(config: PretrainConfig) -> None:
    spaces = sb3_spaces(config.env_id, config.env)
    if config.net.shared or config.net.state_dependent_std or config.net.separate_encoders:
        raise UserError("SB3's MlpPolicy shares no layers and has one noise for all states; use --learner ppo")
    if config.ppo.step_control != "clip":
        raise UserError(f"SB3's PPO has no {config.ppo.step_control} step control; use clip or --learner ppo")
    if config.ppo.lr_schedule == "adaptive":
        raise UserError("SB3's PPO has no adaptive learning rate; use --ppo.lr-schedule linear or --learner ppo")
    if config.ppo.recompute_advantages:
        raise UserError("SB3's PPO does not recompute advantages; use --ppo.no-recompute-advantages or --learner ppo")
    if config.backend == "batched":
        raise UserError("SB3 does not step batched environments; use --backend auto or --learner ppo")
    env: Mapping[str, Any] = config.env
    with closing(make_env(config.env_id, env)) as made:
        space = made.action_space
    if np.any(getattr(space, "start", 0)) or (len(space.shape or ()) > 1 and spaces.choices):
        raise UserError(f"SB3 does not know the action space {space}; use --learner ppo")
    if not np.isfinite([*spaces.low, *spaces.high]).all():
        raise UserError(f"SB3 needs finite action bounds and {config.env_id} has none; use --learner ppo")
