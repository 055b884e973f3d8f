"""Stable-Baselines3's PPO files, read into policies and written from them. Nothing of a file is run."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.encoders import ACTIVATIONS, RunningNorm
from rlhf_control.nets.policy import Policy, check_sizes, check_weights
from rlhf_control.runs.files import save_state, write_atomic
from rlhf_control.runs.npz import check_claims, read_npz
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces

# What an imported policy may not change: our networks are tanh layers over the flat observation.
FIXED_POLICY_KWARGS = {"activation_fn": "Tanh", "features_extractor_class": "FlattenExtractor"}
UNREADABLE = (  # what the readers raise on files that are damaged, foreign or hostile
    OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError,
    zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


def sb3_spaces(env_id: str, env: Mapping[str, Any]) -> Spaces:
    """Raises UserError for an environment that cannot be made."""
    with closing(start_envs(env_id, 1, seed=0, backend="gymnasium", env=env)) as envs:
        return envs.spaces


def sb3_envs(env_id: str, env: Mapping[str, Any], num_envs: int) -> DummyVecEnv:
    """Makes environments with flat observations, as our policies read them: SB3 would turn images and scale them."""

    def make(i: int) -> gymnasium.Env:
        return Monitor(gymnasium.wrappers.FlattenObservation(make_env(env_id, env, i)))

    return DummyVecEnv([partial(make, i) for i in range(num_envs)])


def policy_kwargs(net: NetConfig) -> dict[str, Any]:
    critic_hidden = net.hidden if net.critic_hidden is None else net.critic_hidden
    return {
        "net_arch": {"pi": list(net.hidden), "vf": list(critic_hidden)},
        "log_std_init": net.log_std_init,
        "activation_fn": ACTIVATIONS[net.activation],
    }


def import_sb3(
    source: str | Path | OnPolicyAlgorithm,
    env_id: str,
    env: Mapping[str, Any] | None = None,
    vec_normalize: str | Path | VecNormalize | None = None,
) -> Policy:
    """Makes our policy with the weights of an SB3 PPO or A2C "MlpPolicy": `model.save`'s file, or the model itself.

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

    spaces = sb3_spaces(env_id, env or {})
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
    if policy.encoder.seen:
        raise UserError("only flat policies can be exported to SB3, and this one sees pictures through a CNN")
    path = Path(path)
    with closing(sb3_envs(policy.env_id, policy.env, 1)) as env:
        model = PPO("MlpPolicy", env, policy_kwargs=policy_kwargs(policy.config), device="cpu")
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
