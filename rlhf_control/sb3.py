"""Stable-Baselines3: its PPO as a baseline, its policies in and out. The only importer of stable_baselines3.

An SB3 file is a zip. Its `data` entry and a saved VecNormalize hold pickles, which can run code when loaded.
Here only the weights in `policy.pth` are loaded, by torch's weights-only reader; `data` is looked at as JSON
text; observation statistics come from a live VecNormalize or an .npz of `mean`, `var` and `count`.
"""

import io
import json
import pickle
import re
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
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
from rlhf_control.errors import Stopped, UserError
from rlhf_control.files import save_state, write_atomic
from rlhf_control.foreign import make_env
from rlhf_control.nets import Policy, RunningNorm, Spaces, check_sizes, check_weights, one_thread
from rlhf_control.npz import check_claims, read_npz
from rlhf_control.rollouts import start_envs
from rlhf_control.runs import Run, deferred_signals

Row = dict[str, Any]

# What an imported policy may not change: our networks are tanh layers over the flat observation.
FIXED_POLICY_KWARGS = {"activation_fn": "Tanh", "features_extractor_class": "FlattenExtractor"}
UNREADABLE = (  # what the readers raise on files that are damaged, foreign or hostile
    OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError,
    zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
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

    Three things stay SB3's own: environments are stepped one after another, in a DummyVecEnv; a linear
    schedule is read after the rollout, so that the last update has a rate of zero; generators are global.
    There are no checkpoints: on SIGINT or SIGTERM the policy so far is saved and Stopped is raised, for good.
    """
    return import_sb3(train_sb3(config, run, on_row), config.env_id, config.env)


def train_sb3(config: PretrainConfig, run: Run, on_row: Callable[[Row], None] | None = None) -> PPO:
    """The SB3 model behind `pretrain_sb3`."""
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
    """SB3's PPO with every hyperparameter of the config, before the first step."""
    _refuse_what_sb3_lacks(config)
    ppo = config.ppo
    env: VecEnv = _sb3_envs(config.env_id, config.env, ppo.num_envs)
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
        policy_kwargs=_policy_kwargs(config.net),
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
    spaces = _spaces(config.env_id, config.env)
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


def _spaces(env_id: str, env: Mapping[str, Any]) -> Spaces:
    """Raises UserError for an environment that cannot be made."""
    with closing(start_envs(env_id, 1, seed=0, backend="gymnasium", env=env)) as envs:
        return envs.spaces


def _sb3_envs(env_id: str, env: Mapping[str, Any], num_envs: int) -> DummyVecEnv:
    """Flat observations, as our policies read them: SB3 would turn images and scale them."""

    def make(i: int) -> gymnasium.Env:
        return Monitor(gymnasium.wrappers.FlattenObservation(make_env(env_id, env, i)))

    return DummyVecEnv([partial(make, i) for i in range(num_envs)])


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
    """Our policy with the weights of an SB3 PPO or A2C "MlpPolicy": `model.save`'s file, or the model itself.

    Its mode is what SB3's deterministic `predict` gives, before the clip to the action bounds, on observations
    normalised by `vec_normalize`: a live VecNormalize (a live model brings its own) or an .npz, written by
    `export_sb3` or, from a VecNormalize `v` that you trust, by
    `np.savez(path, mean=v.obs_rms.mean, var=v.obs_rms.var, count=v.obs_rms.count)`. Default: raw observations.
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
    layers = [name for name in weights if re.fullmatch(r"mlp_extractor\.policy_net\.\d+\.weight", name)]
    hidden = tuple(int(weights[name].shape[0]) for name in layers)
    try:
        check_weights(weights)
        named = {f"actor.{2 * i}.weight": weights[name] for i, name in enumerate(layers)}
        check_sizes([spaces.obs_size, *hidden], named, "actor")
    except (ValueError, IndexError) as error:
        raise UserError(f"{source} does not fit {env_id} ({spaces}): {error}") from None
    policy = Policy(spaces, NetConfig(hidden), 0, env_id, dict(env or {}))
    parameters = dict(policy.named_parameters())
    names = _names(len(hidden))
    found = {names.get(theirs, theirs): w for theirs, w in weights.items()}
    if _is_multi_binary(env_id, env or {}):
        last = f"actor.{2 * len(hidden)}"
        found |= {name: _two_logits(found[name]) for name in found if name.startswith(last)}
    if {n: w.shape for n, w in found.items()} != {n: p.shape for n, p in parameters.items()}:
        raise UserError(
            f"{source} does not fit {env_id} ({spaces}); it must be an MlpPolicy of PPO or A2C for these spaces "
            "without gSDE, actor and critic of the same hidden sizes; it holds "
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

    `PPO.load(path).predict(x, deterministic=True)` is then our clipped mode for
    x = clip((obs - mean) / sqrt(var + 1e-8), -10, 10). That clip is why the statistics are not folded into the
    first layer. To go on in SB3, put `mean`, `var` and `count` into the `obs_rms` of a new VecNormalize; the
    hyperparameters in the file are SB3's defaults.
    """
    path = Path(path)
    with closing(_sb3_envs(policy.env_id, policy.env, 1)) as env:
        model = PPO("MlpPolicy", env, policy_kwargs=_policy_kwargs(policy.config), device="cpu")
    names = _names(len(policy.config.hidden))
    weights = policy.state_dict()
    if _is_multi_binary(policy.env_id, policy.env):
        for name in names.values():
            if name.startswith(f"actor.{2 * len(policy.config.hidden)}"):
                weights[name] = _one_logit(weights[name])
    model.policy.load_state_dict({name: weights[names[name]] for name in model.policy.state_dict()})
    buffer = io.BytesIO()
    model.save(buffer)
    write_atomic(path, buffer.getvalue())
    norm = {name: tensor.numpy() for name, tensor in policy.obs_norm.state_dict().items()}
    save_state(path.with_suffix(".obs_norm.npz"), norm)


def _is_multi_binary(env_id: str, env: Mapping[str, Any]) -> bool:
    with closing(make_env(env_id, env)) as made:
        return isinstance(made.action_space, gymnasium.spaces.MultiBinary)


def _two_logits(rows: Tensor) -> Tensor:
    """SB3 has one logit a bit, that of 1; ours has a choice of two. (n, ...) -> (2 n, ...), that of 0 being 0."""
    return torch.stack([torch.zeros_like(rows), rows], 1).flatten(0, 1)


def _one_logit(rows: Tensor) -> Tensor:
    """(2 n, ...) -> (n, ...): only the difference of a bit's two logits matters."""
    return rows[1::2] - rows[::2]


def _names(depth: int) -> dict[str, str]:
    """SB3's parameter names -> ours, for `depth` hidden layers; the tanhs stand at the odd places."""
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
            check_claims(archive, Path(path).stat().st_size)
            content = io.BytesIO(archive.read("policy.pth"))
            with zipfile.ZipFile(content) as inner:  # torch's files are zips themselves
                check_claims(inner, content.getbuffer().nbytes)
            content.seek(0)
            weights = torch.load(content, map_location="cpu", weights_only=True)
            policy_kwargs = json.loads(archive.read("data"))["policy_kwargs"]  # its pickles stay base64 text
        if not isinstance(policy_kwargs, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
            raise ValueError("it is not laid out as SB3 does")
        if any(w.numel() * w.element_size() > w.untyped_storage().nbytes() for w in weights.values()):
            raise ValueError("a tensor claims more numbers than it has")
    except UNREADABLE as error:
        raise UserError(f"cannot read {path} as a Stable-Baselines3 model: {_line(error)}") from error
    return weights, policy_kwargs


def _load_statistics(norm: RunningNorm, source: str | Path | VecNormalize) -> None:
    """Takes over mean, variance and count. Our clip at 10 and epsilon 1e-8 are VecNormalize's defaults."""
    if isinstance(source, VecNormalize):
        if not source.norm_obs:
            return
        if (source.clip_obs, source.epsilon) != (norm.clip, 1e-8):
            raise UserError(
                f"a VecNormalize with clip_obs {source.clip_obs} and epsilon {source.epsilon} cannot be imported, "
                "only one with the defaults, 10 and 1e-8"
            )
        found = {name: getattr(source.obs_rms, name) for name in ("mean", "var", "count")}
    else:
        try:
            archive = read_npz(Path(source).read_bytes(), source)
            found = {name: archive[name] for name in ("mean", "var", "count")}
        except (*UNREADABLE, UserError) as error:
            raise UserError(
                f"cannot read {source} as an .npz of mean, var and count: {_line(error)} "
                "(a VecNormalize pickle is refused, because it could run code; see import_sb3)"
            ) from error
    for name, value in found.items():
        ours: Tensor = getattr(norm, name)
        if np.asarray(value).dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise UserError(f"{source} holds {name} that is not finite; use another copy")
        if np.size(value) != ours.numel():
            raise UserError(f"{source} holds {np.size(value)} numbers as {name}, not {ours.numel()}")
        ours.copy_(torch.from_numpy(np.asarray(value, np.float64).reshape(ours.shape)))


def _line(error: BaseException) -> str:
    """What an error says, without torch's advice to load unsafely."""
    return str(error).partition("\n")[0]
