"""Stable-Baselines3's live models, read into policies, and its files written. `sb3_zips` reads files without it."""

import io
import math
import pickle
from collections.abc import Mapping, Sequence
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
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.environments import environment
from rlhf_control.interop.networks import untied
from rlhf_control.interop.sb3_zips import algorithm_of, import_weights, places, read_sb3_zip, refuse_others
from rlhf_control.interop.statistics import NUMBERS, Statistics, read_statistics, statistics_of
from rlhf_control.nets.encoders import ACTIVATIONS, Encoder
from rlhf_control.nets.pictures import NATURE_SIDE
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import save_state, write_atomic
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces


def sb3_spaces(env_id: str, env: Mapping[str, Any]) -> Spaces:
    """Raises UserError for an environment that cannot be made."""
    with closing(start_envs(env_id, 1, seed=0, backend="gymnasium", env=env)) as envs:
        return envs.spaces


def sb3_envs(env_id: str, env: Mapping[str, Any], num_envs: int, *, flat: bool = True) -> DummyVecEnv:
    """Makes environments with flat observations, as our policies read them: SB3 would turn images and scale them."""

    def make(i: int) -> gymnasium.Env:
        made = make_env(env_id, env, i)
        return Monitor(gymnasium.wrappers.FlattenObservation(made) if flat else made)

    return DummyVecEnv([partial(make, i) for i in range(num_envs)])


def policy_kwargs(net: NetConfig) -> dict[str, Any]:
    """Returns what makes SB3's policy as large as ours."""
    critic_hidden = net.hidden if net.critic_hidden is None else net.critic_hidden
    return {
        "net_arch": {"pi": [*net.shared, *net.hidden], "vf": [*net.shared, *critic_hidden]},
        "log_std_init": net.log_std_init,
        "activation_fn": ACTIVATIONS[net.activation],
    }


def import_sb3(
    source: str | Path | OnPolicyAlgorithm,
    env_id: str,
    env: Mapping[str, Any] | None = None,
    vec_normalize: str | Path | VecNormalize | None = None,
) -> Policy:
    """Makes our policy with the weights of an SB3 PPO or A2C: `model.save`'s file, or the model itself.

    Its mode is what SB3's deterministic `predict` gives, before the clip to the action bounds, on observations
    normalised by `vec_normalize`: a live VecNormalize (a live model brings its own) or an .npz, written by
    `export_sb3` or as the README says. Default: raw observations.
    """
    made = environment(env_id, env or {})
    if not isinstance(source, OnPolicyAlgorithm):
        return read_sb3_zip(source, made, live_or_read(vec_normalize))
    data = plain_data(source)
    refuse_others(data, "this model")
    statistics = live_or_read(vec_normalize or source.get_vec_normalize_env())
    weights = {name: tensor.detach().clone() for name, tensor in source.policy.state_dict().items()}
    return import_weights(weights, data, made, statistics, "this model", algorithm_of(data))


def plain_data(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Returns what `sb3_zips` reads of a file's `data`, of a live model."""
    kwargs = {name: str(value) if isinstance(value, type) else value for name, value in model.policy_kwargs.items()}
    spaces = {f"{name}_space": plain_space(getattr(model, f"{name}_space")) for name in ("observation", "action")}
    return (
        vars(model) | {"policy_kwargs": kwargs, "policy_class": {"__module__": type(model.policy).__module__}} | spaces
    )


def plain_space(space: gymnasium.Space) -> dict[str, Any]:
    """Returns a space as files have it, as far as it is read."""
    found: dict[str, Any] = {":type:": str(type(space)), "_shape": list(space.shape or ())}
    if isinstance(space, gymnasium.spaces.Dict):
        return found | {"spaces": str(space.spaces)}
    return found | {name: str(getattr(space, name)) for name in ("n", "nvec") if hasattr(space, name)}


def live_or_read(source: str | Path | VecNormalize | None) -> Statistics | None:
    """Returns the statistics of a VecNormalize, or of an .npz."""
    if source is None or not isinstance(source, VecNormalize):
        return None if source is None else read_statistics(source)
    if not source.norm_obs:
        return None
    rms = source.obs_rms
    by_key = {f"{key}/": value for key, value in rms.items()} if isinstance(rms, dict) else {"": rms}
    numbers = {f"{key}{name}": np.asarray(getattr(one, name)) for key, one in by_key.items() for name in NUMBERS}
    return statistics_of(numbers | {"clip": source.clip_obs, "epsilon": source.epsilon}, "this VecNormalize")


def export_sb3(policy: Policy, path: str | Path) -> list[Path]:
    """Writes an SB3 PPO file and, beside it, the observation statistics as NAME.obs_norm.npz and (if there are any) as
    NAME.vecnormalize.pkl, which `VecNormalize.load` reads. Returns the files.

    SB3's `load(path).predict(x, deterministic=True)` is then our clipped mode for
    x = clip((obs - mean) / sqrt(var + 1e-8), -10, 10), of observations as `gymnasium.wrappers.FlattenObservation` has
    them or, where there are pictures, as the environment does. That clip is why the statistics are not folded into the
    first layer. Layers that actor and critic share are written for each. The hyperparameters in the file are SB3's
    defaults. Raises UserError for what SB3 cannot be.
    """
    net, seen, path = policy.config, bool(policy.encoder.seen), Path(path)
    if net.state_dependent_std:
        raise UserError("SB3's PPO has one noise for all states, and this policy's depends on them; use torchscript")
    kwargs, weights, kind = policy_kwargs(net), untied(policy), "MlpPolicy"
    with closing(sb3_envs(policy.env_id, policy.env, 1, flat=not seen)) as env:
        if seen:
            kind, more = _seeing(policy, env.observation_space)
            kwargs |= more
        model = PPO(kind, env, policy_kwargs=kwargs, device="cpu")
        normalised = VecNormalize(env, norm_obs_keys=_normalised(policy, env), clip_obs=policy.obs_norm.clip)
    names = _names(len(kwargs["net_arch"]["pi"]), len(kwargs["net_arch"]["vf"]))
    if _is_multi_binary(policy.env_id, policy.env):
        for of in ("weight", "bias"):
            last = names[f"action_net.{of}"]
            weights[last] = _one_logit(weights[last])
    if kind == "MultiInputPolicy":
        _fold_choices(policy, weights, normalised.norm_obs_keys or [])
        theirs = places(policy.spaces.parts, list(model.observation_space.spaces), net.picture_features)  # type: ignore[attr-defined]
        for of in ("actor", "critic"):
            weights[f"{of}.0.weight"] = weights[f"{of}.0.weight"][:, torch.from_numpy(theirs.argsort())]
    pictures = _picture_weights(policy) if seen else {}
    model.policy.load_state_dict(pictures | {n: weights[names[n]] for n in model.policy.state_dict() if n in names})
    buffer = io.BytesIO()
    model.save(buffer)
    write_atomic(path, buffer.getvalue())
    norm = {name: tensor.numpy() for name, tensor in policy.obs_norm.state_dict().items()}
    save_state(path.with_suffix(".obs_norm.npz"), norm)
    written = [path, path.with_suffix(".obs_norm.npz")]
    if policy.obs_norm.count:
        _fill(normalised, policy)
        written.append(path.with_suffix(".vecnormalize.pkl"))
        write_atomic(written[-1], pickle.dumps(normalised))
    return written


def _seeing(policy: Policy, space: gymnasium.Space) -> tuple[str, dict[str, Any]]:
    """SB3's policy for pictures, alone or in a Dict, and what makes its networks as large as ours. Raises UserError for
    what it does not take for a picture, and for spaces that it does not have."""
    parts: dict[str, gymnasium.Space] = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {"": space}
    if policy.config.encoder != "cnn":
        raise UserError("SB3's policies see by the CNN of Nature, and this policy has another one; use --to npz")
    for part in policy.encoder.seen:
        sides = sorted(part.shape)[-2:]
        if part.name not in parts or not is_image_space(parts[part.name]) or min(sides) < NATURE_SIDE:
            raise UserError(
                f"SB3's policies see pictures (height, width, channels) of {NATURE_SIDE} pixels a side and more, alone "
                f"or in a plain Dict, and {policy.env_id} shows {policy.spaces}"
            )
    if {part.name for part in policy.spaces.parts} != parts.keys():
        raise UserError(f"SB3 has no Dicts within Dicts, and {policy.env_id} shows {policy.spaces}")
    features = policy.config.picture_features
    of_size = {"cnn_output_dim" if "" not in parts else "features_dim": features}
    separate = {"share_features_extractor": not policy.config.separate_encoders}
    return ("CnnPolicy" if "" in parts else "MultiInputPolicy"), {"features_extractor_kwargs": of_size} | separate


def _normalised(policy: Policy, env: DummyVecEnv) -> list[str] | None:
    """The entries of a Dict that VecNormalize can normalise: Boxes of numbers."""
    if not isinstance(env.observation_space, gymnasium.spaces.Dict):
        return None
    spaces, numbers = env.observation_space.spaces, [part.name for part in policy.encoder.counted]
    return [name for name in numbers if isinstance(spaces[name], gymnasium.spaces.Box)]


def _fold_choices(policy: Policy, weights: dict[str, Tensor], keys: Sequence[str]) -> None:
    """Folds the statistics of what VecNormalize leaves alone, and is 0 or 1, into the first layers: two values, so that
    the clip is in it."""
    norm = policy.obs_norm
    bits = torch.stack([torch.zeros(len(norm.mean)), torch.ones(len(norm.mean))])
    zero, one = norm(bits)
    at = 0
    for part in policy.encoder.counted:
        columns = slice(at, at := at + math.prod(part.shape))
        if part.name in keys:
            continue
        for of in ("actor", "critic"):
            weight = weights[f"{of}.0.weight"]
            weights[f"{of}.0.bias"] += weight[:, columns] @ zero[columns]
            weight[:, columns] *= one[columns] - zero[columns]


def _fill(normalised: VecNormalize, policy: Policy) -> None:
    """Has a VecNormalize know the policy's statistics."""
    norm, at = {name: tensor.numpy() for name, tensor in policy.obs_norm.state_dict().items()}, 0
    if not isinstance(normalised.obs_rms, dict):
        rms = normalised.obs_rms
        rms.mean, rms.var, rms.count = norm["mean"].copy(), norm["var"].copy(), float(norm["count"])
        return
    for part in policy.encoder.counted:
        columns = slice(at, at := at + math.prod(part.shape))
        if part.name in normalised.obs_rms:
            rms = normalised.obs_rms[part.name]
            rms.mean, rms.var = (norm[name][columns].reshape(part.shape).copy() for name in ("mean", "var"))
            rms.count = float(norm["count"])


def _picture_weights(policy: Policy) -> dict[str, Tensor]:
    """The CNNs under SB3's names, who has them three times."""
    found = {}
    for prefix, encoder in (("", None), ("pi_", None), ("vf_", policy.critic_encoder)):
        seeing = encoder or policy.encoder
        assert isinstance(seeing, Encoder)
        for part, network in zip(policy.encoder.seen, seeing.pictures, strict=True):
            own = f"{prefix}features_extractor" + (f".extractors.{part.name}" if part.name else "")
            for name, tensor in network.state_dict().items():
                place, _, kind = name.partition(".")
                found[f"{own}.{'linear.0' if place == '7' else f'cnn.{place}'}.{kind}"] = tensor
    return found


def _is_multi_binary(env_id: str, env: Mapping[str, Any]) -> bool:
    with closing(make_env(env_id, env)) as made:
        return isinstance(made.action_space, gymnasium.spaces.MultiBinary)


def _one_logit(rows: Tensor) -> Tensor:
    """(2 n, ...) -> (n, ...): only the difference of a bit's two logits matters."""
    return rows[1::2] - rows[::2]


def _names(depth: int, critic_depth: int | None = None) -> dict[str, str]:
    """SB3's parameter names -> ours, for `depth` hidden layers; activations stand at the odd places."""
    names, depths = {"log_std": "log_std"}, {"actor": depth, "critic": depth if critic_depth is None else critic_depth}
    for ours, body, head in (("actor", "policy_net", "action_net"), ("critic", "value_net", "value_net")):
        for kind in ("weight", "bias"):
            names |= {f"mlp_extractor.{body}.{2 * i}.{kind}": f"{ours}.{2 * i}.{kind}" for i in range(depths[ours])}
            names[f"{head}.{kind}"] = f"{ours}.{2 * depths[ours]}.{kind}"
    return names
