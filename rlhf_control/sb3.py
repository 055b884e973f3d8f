"""Stable-Baselines3: its PPO as a baseline, and its policies in and out. The only importer of stable_baselines3.

An SB3 file is a zip. Its `data` entry and a saved VecNormalize hold pickles, which can run code when they are
loaded; here only the weights in `policy.pth` are loaded, by torch's weights-only reader, and `data` is looked at
as JSON text. Observation statistics come from a live VecNormalize or an .npz of `mean`, `var` and `count`.
"""

import io
import json
import pickle
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import Tensor

from rlhf_control.config import NetConfig, PretrainConfig
from rlhf_control.data import check_finite
from rlhf_control.errors import UserError
from rlhf_control.files import save_state, write_atomic
from rlhf_control.nets import Policy, RunningNorm, Spaces
from rlhf_control.rollouts import make_envs
from rlhf_control.runs import Run, Stopped, deferred_signals

Row = dict[str, Any]

# What an imported policy may not change: our networks are tanh layers over the flat observation.
FIXED_POLICY_KWARGS = {"activation_fn": "Tanh", "features_extractor_class": "FlattenExtractor"}
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
    """The policy that SB3's PPO learns under the same hyperparameters; rows go to the same metrics.jsonl.

    Three things stay SB3's own: environments are stepped one after another in a DummyVecEnv; a linear schedule is
    read after the rollout, so that the last update's is zero; and its generators are the global ones. There are no
    checkpoints: on SIGINT or SIGTERM the policy so far is saved and the run ends (Stopped), for good.
    """
    return import_sb3(train_sb3(config, run, on_row), config.env_id, config.env)


def train_sb3(config: PretrainConfig, run: Run, on_row: Callable[[Row], None] | None = None) -> PPO:
    """The SB3 model behind `pretrain_sb3`."""
    _refuse_what_sb3_lacks(config)
    ppo = config.ppo
    env: VecEnv = _sb3_envs(config.env_id, config.env, ppo.num_envs)
    if config.normalize_obs or config.normalize_reward:
        env = VecNormalize(
            env, norm_obs=config.normalize_obs, norm_reward=config.normalize_reward, gamma=ppo.gamma
        )
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
        policy_kwargs=_policy_kwargs(config.net),
        seed=config.seed,
        device="cpu",
    )
    model.set_logger(Logger(None, []))  # the default one would leave a folder in /tmp
    with closing(env), deferred_signals() as caught:
        # without a log_interval nothing is dumped, and the logger keeps the last update's numbers for our row
        model.learn(config.total_steps, _Rows(run, on_row, caught), log_interval=None)
    if caught:
        import_sb3(model, config.env_id, config.env).save(run.path / "policy.npz", env_steps=model.num_timesteps)
        raise Stopped(caught[0])
    return model


class _Rows(BaseCallback):
    """Checks every step and writes one row an iteration."""

    def __init__(self, run: Run, on_row: Callable[[Row], None] | None, caught: list[int]) -> None:
        super().__init__()
        self.run, self.on_row, self.caught = run, on_row, caught
        self.iteration = 0
        self.began = time.monotonic()
        self.collected = False
        self.episodes: list[dict[str, float]] = []  # Monitor's, which stands under VecNormalize: raw returns

    def _on_step(self) -> bool:
        for field in ("actions", "new_obs", "rewards"):
            check_finite(f"SB3's {field}", self.locals[field][None], self.locals["n_steps"])
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
        self.iteration, self.collected, self.episodes, self.began = self.iteration + 1, False, [], time.monotonic()


def _refuse_what_sb3_lacks(config: PretrainConfig) -> None:
    spaces = _spaces(config.env_id, config.env)
    if config.ppo.step_control != "clip":
        raise UserError(f"SB3's PPO has no step_control '{config.ppo.step_control}'; use clip, or --learner ppo")
    if config.backend == "batched":
        raise UserError("SB3 does not step batched environments; use --backend auto, or --learner ppo")
    if not np.isfinite([*spaces.low, *spaces.high]).all():
        raise UserError(f"SB3 needs finite action bounds and {config.env_id} has none; use --learner ppo")


def _spaces(env_id: str, env: Mapping[str, Any]) -> Spaces:
    """Raises UserError for an environment that cannot be made."""
    with closing(make_envs(env_id, 1, seed=0, backend="gymnasium", env=env)) as envs:
        return envs.spaces


def _sb3_envs(env_id: str, env: Mapping[str, Any], num_envs: int) -> DummyVecEnv:
    """Flat observations, as our policies read them: SB3 would turn images and scale them."""

    def make() -> gymnasium.Env:
        return Monitor(gymnasium.wrappers.FlattenObservation(gymnasium.make(env_id, **env)))

    return DummyVecEnv([make] * num_envs)


def _policy_kwargs(net: NetConfig) -> dict[str, Any]:
    hidden = list(net.hidden)
    return {"net_arch": {"pi": hidden, "vf": hidden}, "log_std_init": net.log_std_init}


# -- import and export


def import_sb3(
    source: str | Path | OnPolicyAlgorithm,
    env_id: str,
    env: Mapping[str, Any] | None = None,
    vec_normalize: str | Path | VecNormalize | None = None,
) -> Policy:
    """Our policy with the weights of an SB3 PPO or A2C "MlpPolicy": the file of `model.save`, or the model itself.

    It acts as SB3's deterministic `predict` does on observations normalised by `vec_normalize`: a live VecNormalize
    (a live model brings its own) or an .npz, written by `export_sb3` or from a VecNormalize `v` that you trust, by
    `np.savez(path, mean=v.obs_rms.mean, var=v.obs_rms.var, count=v.obs_rms.count)`. Without, raw observations.
    """
    if isinstance(source, OnPolicyAlgorithm):
        weights = source.policy.state_dict()
        policy_kwargs = {name: getattr(source.policy, name, "") for name in FIXED_POLICY_KWARGS}
        vec_normalize = vec_normalize or source.get_vec_normalize_env()
        source = "this model"
    else:
        weights, policy_kwargs = _read_zip(source)
    for name, ours in FIXED_POLICY_KWARGS.items():
        if ours not in str(policy_kwargs.get(name, ours)):
            raise UserError(f"{source} has {name} {policy_kwargs[name]}; only {ours} can be imported")

    spaces = _spaces(env_id, env or {})
    hidden = [w.shape[0] for name, w in weights.items() if name.startswith("mlp_extractor.policy_net") and w.ndim == 2]
    policy = Policy(spaces, NetConfig(tuple(hidden)), 0, env_id, dict(env or {}))
    parameters = dict(policy.named_parameters())
    names = _names(len(hidden))
    found = {names.get(theirs, theirs): w for theirs, w in weights.items()}
    if {n: w.shape for n, w in found.items()} != {n: p.shape for n, p in parameters.items()}:
        raise UserError(
            f"{source} does not fit {env_id} ({spaces}): it must be an MlpPolicy of PPO or A2C for these spaces, "
            f"without gSDE, with actor and critic of the same hidden sizes; it holds "
            + ", ".join(f"{n} {tuple(w.shape)}" for n, w in weights.items())
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    if vec_normalize is not None:
        _load_statistics(policy.obs_norm, vec_normalize)
    return policy


def export_sb3(policy: Policy, path: str | Path) -> None:
    """Writes an SB3 PPO file, and the observation statistics beside it as NAME.obs_norm.npz.

    `PPO.load(path).predict(x, deterministic=True)` is then our action for x = clip((obs - mean) / sqrt(var + 1e-8),
    -10, 10). Statistics cannot be folded into the first layer exactly, because of the clip. To train on in SB3, put
    `mean`, `var` and `count` into the `obs_rms` of a new VecNormalize.
    """
    path = Path(path)
    with closing(_sb3_envs(policy.env_id, policy.env, 1)) as env:
        model = PPO("MlpPolicy", env, policy_kwargs=_policy_kwargs(policy.config), device="cpu")
    names = _names(len(policy.config.hidden))
    parameters = dict(policy.named_parameters())
    model.policy.load_state_dict({name: parameters[names[name]].detach() for name in model.policy.state_dict()})
    buffer = io.BytesIO()
    model.save(buffer)
    write_atomic(path, buffer.getvalue())
    norm = {name: tensor.numpy() for name, tensor in policy.obs_norm.state_dict().items()}
    save_state(path.with_suffix(".obs_norm.npz"), norm)


def _names(depth: int) -> dict[str, str]:
    """SB3's parameter names -> ours, for `depth` hidden layers; the odd places of both hold the tanh."""
    names = {"log_std": "log_std"}
    for ours, body, head in (("actor", "policy_net", "action_net"), ("critic", "value_net", "value_net")):
        for kind in ("weight", "bias"):
            names |= {f"mlp_extractor.{body}.{2 * i}.{kind}": f"{ours}.{2 * i}.{kind}" for i in range(depth)}
            names[f"{head}.{kind}"] = f"{ours}.{2 * depth}.{kind}"
    return names


def _read_zip(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, policy_kwargs as text) of an SB3 file, without running what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
            data = json.loads(archive.read("data"))  # pickles in it stay base64 text
        if not all(isinstance(w, Tensor) for w in weights.values()):
            raise ValueError("policy.pth holds other things than weights")
        return weights, data["policy_kwargs"] | {}
    except (
        OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError,
        zipfile.BadZipFile, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise UserError(f"cannot read {path} as a Stable-Baselines3 model: {error}") from error


def _load_statistics(norm: RunningNorm, source: str | Path | VecNormalize) -> None:
    """Takes over mean, variance and count. Our clip at 10 and epsilon 1e-8 are VecNormalize's defaults."""
    if isinstance(source, VecNormalize):
        if not source.norm_obs:
            return
        if (source.clip_obs, source.epsilon) != (norm.clip, 1e-8):
            raise UserError(
                f"VecNormalize with clip_obs {source.clip_obs} and epsilon {source.epsilon} cannot be imported; "
                f"ours are {norm.clip} and 1e-08"
            )
        found = {name: getattr(source.obs_rms, name) for name in ("mean", "var", "count")}
    else:
        try:
            with np.load(source, allow_pickle=False) as archive:
                found = {name: archive[name] for name in ("mean", "var", "count")}
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"cannot read {source} as observation statistics: {error}; "
                "it must be an .npz of mean, var and count (a VecNormalize pickle could run code)"
            ) from error
    statistics = {name: torch.as_tensor(np.asarray(value, np.float64)) for name, value in found.items()}
    if statistics["mean"].numel() != len(norm.mean) or statistics["mean"].shape != statistics["var"].shape:
        raise UserError(f"{source} has statistics of {statistics['mean'].numel()} numbers, not {len(norm.mean)}")
    norm.load_state_dict({name: s.flatten() if name != "count" else s.reshape(()) for name, s in statistics.items()})
