"""Checkpoints of rsl_rl's PPO (`model_N.pt`), read by torch's weights-only reader, without rsl_rl.

Versions 1 to 3 save one `model_state_dict` (actor.N, critic.N, std or log_std), later ones one state dict for each
network. Normalisers have (x - mean) / (std + 0.01) and no clip. The file does not say the activation, ELU by default,
nor how observations are put together: that is the environment's, whose order has to be the same here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_control.errors import UserError, tell
from rlhf_control.interop.cleanrl import read_cleanrl
from rlhf_control.interop.environments import Environment
from rlhf_control.interop.networks import Layer, Networks, layers, policy_of
from rlhf_control.interop.statistics import Statistics
from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, plain_weights, read_torch
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import read_own

WHAT = "a checkpoint of rsl_rl's PPO"
OF_BOTH, OF_ACTOR, OF_CRITIC = "model_state_dict", "actor_state_dict", "critic_state_dict"
NORMALISERS = {"actor": "obs_norm_state_dict", "critic": "privileged_obs_norm_state_dict"}  # versions 1 and 2
EPSILON, UNCLIPPED = 0.01, 1e30
LEAST_STD = 1e-6


def read_torch_policy(path: str | Path, made: Environment, statistics: Statistics | None = None) -> Policy:
    """Return our policy with the weights in a file of torch.save: rsl_rl's PPO or CleanRL's, for an environment."""
    try:
        found = read_torch(read_own(path, follow=True))
        if not isinstance(found, Mapping) or not {OF_BOTH, OF_ACTOR} & found.keys():
            return read_cleanrl(path, made, statistics)
        networks = networks_of(found, path, statistics)
    except UserError:
        raise
    except UNREADABLE as error:
        raise cannot_read(path, "weights of torch.save", error) from None
    policy = policy_of(networks, made.spaces, made.env_id, made.env, path)
    seen = "normalised by " + ("the statistics given" if statistics else "its own statistics")
    seen = seen if networks.statistics else "raw: it has no normaliser"
    critic = "" if networks.critic is not None else "; its critic sees other observations, so ours begins anew"
    tell(f"{path} is read as PPO of rsl_rl, elu (its default), observations {seen}{critic}")
    return policy


def networks_of(found: Mapping[str, Any], where: str | Path, given: Statistics | None = None) -> Networks:
    """Return the networks of a checkpoint, whose own statistics `given` ones replace. Raises UserError for networks
    that ours cannot be, one of UNREADABLE for what is damaged."""
    weights = flat_weights(found)
    actor, critic = layers(weights, "actor"), layers(weights, "critic")
    log_std = weights["log_std"] if "log_std" in weights else weights.get("std")
    strange = [name for name in weights if not name.startswith(("actor", "critic", "std", "log_std"))]
    strange += [name for name in weights if name.startswith(("actor.", "critic.")) and name.count(".") != 2]
    if strange or not actor or not critic or log_std is None:
        what = strange[0] if strange else f"{', '.join(weights)[:200]} and no actor, critic and std"
        raise UserError(f"{where} has {what}; of rsl_rl only PPO's plain ActorCritic, with one std, can be read")
    if "log_std" not in weights:
        log_std = log_std.clamp(min=LEAST_STD).log()
    norm = {name: normaliser(weights, f"{name}_obs_normalizer.") for name in ("actor", "critic")}
    for name, layer in (("actor", actor[0]), ("critic", critic[0])):
        if norm[name] and not len(norm[name][0]) == len(norm[name][1]) == layer[0].shape[-1]:
            raise ValueError(f"its {name} has {layer[0].shape[-1]} inputs, and a normaliser of another size")
    own, privileged = norm["actor"], actor[0][0].shape[1:] != critic[0][0].shape[1:]
    fitting = None if privileged else [as_seen(critic[0], norm["critic"], given or own), *critic[1:]]
    statistics = given or (own and Statistics({"": own[0]}, {"": own[1] ** 2}, own[2], UNCLIPPED, 0.0))
    return Networks(actor, fitting, activation="elu", log_std=log_std.flatten(), statistics=statistics)


def flat_weights(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of any version under the names of version 3."""
    parts: dict[str, Any] = {}
    for name in ("actor", "critic"):
        for key, value in state_dict(found, f"{name}_state_dict").items():
            head, _, rest = key.partition(".")
            place = {"mlp": f"{name}.{rest}", "obs_normalizer": f"{name}_obs_normalizer.{rest}"}.get(head, key)
            place = {"distribution.std_param": "std", "distribution.log_std_param": "log_std"}.get(place, place)
            parts[place] = value
        for key, value in state_dict(found, NORMALISERS[name]).items():
            parts[f"{name}_obs_normalizer.{key}"] = value
    parts |= state_dict(found, OF_BOTH)
    counts = {key: value.double() for key, value in parts.items() if key.endswith("_obs_normalizer.count")}
    return plain_weights(parts | counts)


def state_dict(found: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """Return a state dict of a checkpoint, empty where there is none. Raises ValueError for what is none."""
    state = found.get(name) or {}
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{name} is no state dict")
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{name} holds what are no weights")
    return dict(state)


def normaliser(weights: Mapping[str, Tensor], prefix: str) -> Any:
    """Return (mean, what is divided by, count), arrays of float64; None: there is none, or it has seen nothing."""
    if f"{prefix}_mean" not in weights:
        return None
    mean, std = (weights[f"{prefix}{name}"].flatten().double().numpy() for name in ("_mean", "_std"))
    count = float(weights[f"{prefix}count"]) if f"{prefix}count" in weights else 1.0
    return mean, std + EPSILON, max(count, 1.0)


def as_seen(layer: Layer, critic: Any, shared: Any) -> Layer:
    """Return the critic's first layer on what our one normaliser, the actor's, makes of observations: theirs has its
    own statistics. Neither clips, so that is exact; statistics that were given stand for both."""
    if isinstance(shared, Statistics):
        return layer
    weight, bias = (tensor.double() for tensor in layer)
    mean, scale = (torch.zeros(weight.shape[1]).double(), torch.ones(weight.shape[1]).double())
    ours, theirs = (
        (torch.from_numpy(norm[0]), torch.from_numpy(norm[1])) if norm else (mean, scale) for norm in (shared, critic)
    )
    bias = bias + weight @ ((ours[0] - theirs[0]) / theirs[1])
    return (weight * (ours[1] / theirs[1])).float(), bias.float()
