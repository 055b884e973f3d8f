"""From the weights of another library's policy to one of ours, for an environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.statistics import Statistics
from rlhf_control.nets.encoders import ACTIVATIONS
from rlhf_control.nets.pictures import Sight, check_pictures
from rlhf_control.nets.policy import MAX_LOG_STD, Policy, layer_sizes
from rlhf_control.nets.zoo import unfit
from rlhf_control.spaces import Spaces

Layer = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)
BY_CLASS = {kind.__name__.lower(): name for name, kind in ACTIVATIONS.items()} | {"swish": "silu", "linear": "identity"}


@dataclass(frozen=True)
class Networks:
    """Holds a policy's weights, in the order in which it reads our parts, and what they mean."""

    actor: list[Layer]  # its last layer puts out means or logits, and log standard deviations behind them
    critic: list[Layer] | None = None  # None: the file has none
    trunk: list[Layer] = field(default_factory=list)  # what both begin with
    activation: str = "tanh"
    log_std: Tensor | None = None  # (A,) for all states, () of choices; None: it depends on the state
    pictures: list[dict[str, Tensor]] = field(default_factory=list)  # a CNN's parameters for each, named as ours
    critic_pictures: list[dict[str, Tensor]] = field(default_factory=list)  # of the critic's own, where it has some
    statistics: Statistics | None = None
    theirs: str = ""  # the spaces that it is for, as far as the file says


def layers(weights: Mapping[str, Tensor], prefix: str) -> list[Layer]:
    """Return the layers PREFIX.N.weight and .bias of a state dict, by N."""
    at = sorted(int(name.split(".")[-2]) for name in weights if _is_weight(name, prefix))
    return [(weights[f"{prefix}.{i}.weight"], weights[f"{prefix}.{i}.bias"]) for i in at]


def one_layer(weights: Mapping[str, Tensor], name: str) -> Layer:
    """Return NAME.weight and .bias of a state dict. Raises KeyError."""
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _is_weight(name: str, prefix: str) -> bool:
    head, _, kind = name.rpartition(".")
    before, _, number = head.rpartition(".")
    return before == prefix and kind == "weight" and number.isdecimal() and len(number) < 4


def activation_named(name: str, where: str | Path) -> str:
    """Return our name of an activation, from a class such as torch.nn.ReLU or another library's name of it."""
    name = name.rpartition(".")[2].strip("'> ")
    found = BY_CLASS.get(name.lower())
    if found is None:
        raise UserError(f"{where} has the activation {name}; known: {', '.join(sorted(BY_CLASS))}")
    return found


def policy_of(networks: Networks, spaces: Spaces, env_id: str, env: Mapping[str, Any], where: str | Path) -> Policy:
    """Return our policy with these weights. Raises UserError where they do not fit the environment."""
    net, statistics = net_config(networks), networks.statistics
    if statistics is not None:
        net = replace(net, obs_clip=statistics.clip)
    if networks.pictures and len(networks.pictures) != sum(part.picture for part in spaces.parts):
        raise unfit(where, networks.theirs or f"{len(networks.pictures)} pictures", env_id, spaces)
    sizes = layer_sizes(spaces, net)
    found = [chain(part) for part in (networks.trunk, networks.actor, networks.critic or [])]
    if [-1] in found:
        raise UserError(f"{where} has layers that do not follow from one another; use another copy")
    fits = found[0] in ([], sizes[0]) and found[1] == sizes[1] and found[2] in ([], sizes[2])
    if not fits or (not networks.critic and networks.critic is not None):
        theirs = networks.theirs or f"{(found[0] or found[1])[0]} inputs and {found[1][-1]} outputs"
        raise unfit(where, theirs, env_id, spaces)
    if networks.log_std is not None and networks.log_std.shape != (spaces.action_size,) and not spaces.choices:
        raise unfit(where, networks.theirs or f"{networks.log_std.numel()} actions", env_id, spaces)
    weights = parameters(networks)
    try:
        for prefix in ("encoder.", "critic_encoder.")[: 1 + net.separate_encoders]:
            check_pictures(spaces.parts, weights, Sight.of(net), prefix)
    except (KeyError, ValueError) as error:
        raise unfit(where, networks.theirs or f"pictures of another size ({error})", env_id, spaces) from None
    policy = Policy(spaces, net, 0, env_id, dict(env))
    own = dict(policy.named_parameters())
    for name in [name for name in own if name not in weights and networks.critic is None and name.startswith("critic")]:
        del own[name]
    if {n: w.shape for n, w in weights.items()} != {n: p.shape for n, p in own.items()}:
        raise unfit(where, networks.theirs or "other layers", env_id, spaces)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    if statistics is not None:
        if not policy.encoder.counted:
            raise UserError(f"{where} sees nothing but pictures, which statistics are not for; leave --obs-stats out")
        statistics.load_into(policy.obs_norm, policy.encoder.counted, where)
    return policy


def net_config(networks: Networks) -> NetConfig:
    """Return the options that make such networks."""
    hidden, critic = ([weight.shape[0] for weight, _ in part[:-1]] for part in (networks.actor, networks.critic or []))
    log_std = 0.0 if networks.log_std is None or not networks.log_std.numel() else float(networks.log_std.mean())
    return NetConfig(
        tuple(hidden), min(max(log_std, -MAX_LOG_STD), 5.0), "cnn" if networks.pictures else "flat",
        activation=networks.activation,  # type: ignore[arg-type]
        critic_hidden=None if critic == hidden or networks.critic is None else tuple(critic),
        shared=tuple(weight.shape[0] for weight, _ in networks.trunk),
        state_dependent_std=networks.log_std is None,
        picture_features=_picture_features(networks.pictures),
        separate_encoders=bool(networks.critic_pictures),
    )  # fmt: skip


def chain(part: Sequence[Layer]) -> list[int]:
    """Return inputs, widths and outputs of layers; [-1] where one does not follow from the one before."""
    if any(w.ndim != 2 or b.shape != w.shape[:1] for w, b in part):
        return [-1]
    if any(a.shape[0] != b.shape[1] for (a, _), (b, _) in pairwise(part)):
        return [-1]
    return [part[0][0].shape[1], *(weight.shape[0] for weight, _ in part)] if part else []


def parameters(networks: Networks) -> dict[str, Tensor]:
    """Return the weights under our names."""
    found: dict[str, Tensor] = {}
    for name, part in (("trunk", networks.trunk), ("actor", networks.actor), ("critic", networks.critic or [])):
        for i, (weight, bias) in enumerate(part):
            found |= {f"{name}.{2 * i}.weight": weight, f"{name}.{2 * i}.bias": bias}
    for prefix, pictures in (("encoder", networks.pictures), ("critic_encoder", networks.critic_pictures)):
        for i, own in enumerate(pictures):
            found |= {f"{prefix}.pictures.{i}.{name}": tensor for name, tensor in own.items()}
    return found if networks.log_std is None or not networks.log_std.numel() else found | {"log_std": networks.log_std}


def _picture_features(pictures: Sequence[Mapping[str, Tensor]]) -> int:
    last = [max((name for name in own if name.endswith("weight")), key=_number) for own in pictures]
    sizes = {own[name].shape[0] for own, name in zip(pictures, last, strict=True)}
    return sizes.pop() if len(sizes) == 1 else 512


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def nature(weights: Mapping[str, Tensor], convolutions: str, linear: str) -> dict[str, Tensor]:
    """Return the parameters of a Nature CNN under our names, of CONVOLUTIONS.N and LINEAR of a state dict."""
    found: dict[str, Tensor] = {}
    for i, (weight, bias) in enumerate(layers(weights, convolutions)[:3]):
        found |= {f"{2 * i}.weight": weight, f"{2 * i}.bias": bias}
    weight, bias = one_layer(weights, linear)
    return found | {"7.weight": weight, "7.bias": bias}


def with_inputs(networks: Networks, columns: np.ndarray, scale: float = 1.0) -> Networks:
    """Return the networks with their inputs in another order: our j-th is their columns[j]-th, times `scale`."""

    def changed(part: list[Layer]) -> list[Layer]:
        (weight, bias), *rest = part
        if weight.ndim != 2 or weight.shape[1] != len(columns):
            return part  # which is said where the sizes are compared
        return [(weight[:, torch.from_numpy(columns)] * scale, bias), *rest]

    if networks.trunk:
        return replace(networks, trunk=changed(networks.trunk))
    critic = networks.critic and changed(networks.critic)
    return replace(networks, actor=changed(networks.actor), critic=critic)


def in_environment_units(networks: Networks, spaces: Spaces) -> Networks:
    """Fold an action a in [-1, 1], which the other library maps to low + (a + 1) (high - low) / 2, into the last layer:
    the policy then speaks of actions as the environment takes them. Boxes with a bound at infinity stay as they are."""
    low, high = (torch.tensor(bound, dtype=torch.float64) for bound in (spaces.low, spaces.high))
    if spaces.choices or not (low.isfinite().all() and high.isfinite().all()):
        return networks
    scale, size = ((high - low) / 2).float(), spaces.action_size
    low = low.float()
    weight, bias = (tensor.clone() for tensor in networks.actor[-1])
    if len(bias) != size * (2 if networks.log_std is None else 1):
        return networks  # which is said where the sizes are compared
    weight[:size] *= scale[:, None]
    bias[:size] = low + (bias[:size] + 1) * scale
    if networks.log_std is None:
        bias[size:] += scale.log()
    actor = [*networks.actor[:-1], (weight, bias)]
    return replace(networks, actor=actor, log_std=None if networks.log_std is None else networks.log_std + scale.log())


def untied(policy: Policy) -> dict[str, Tensor]:
    """Return a policy's weights as two networks that share no layers, actor.N and critic.N, and its log_std."""
    found = {} if policy.spaces.choices else {"log_std": policy.log_std.detach().clone()}
    for name, part in (("actor", policy.actor), ("critic", policy.critic)):
        linears = [layer for layer in (*policy.trunk, *part) if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(linears):
            found[f"{name}.{2 * i}.weight"] = layer.weight.detach().clone()
            found[f"{name}.{2 * i}.bias"] = layer.bias.detach().clone()
    return found
