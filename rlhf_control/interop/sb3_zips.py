"""Stable-Baselines3's zips of PPO and A2C, read into policies without Stable-Baselines3 and without running any of it.

Such a file has `policy.pth`, weights that torch's weights-only reader reads, and `data`, JSON whose pickles stay text.
What it does not say is inferred, and said: the algorithm (by the hyperparameters it lists), the activation (tanh unless
it names another) and a normaliser (none unless statistics are given).
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlhf_control.errors import UserError, tell
from rlhf_control.interop.environments import Environment
from rlhf_control.interop.networks import Networks, activation_named, layers, nature, one_layer, policy_of, with_inputs
from rlhf_control.interop.statistics import Statistics
from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, plain_weights, read_torch
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import unfit
from rlhf_control.runs.files import read_own
from rlhf_control.runs.npz import check_claims
from rlhf_control.spaces import Part

WHAT = "a Stable-Baselines3 model"
MODULES = {  # of the policy's class, and the algorithm
    "stable_baselines3.sac": "SAC", "stable_baselines3.td3": "TD3 or DDPG", "stable_baselines3.dqn": "DQN",
    "sb3_contrib.common.recurrent": "RecurrentPPO", "sb3_contrib.common.maskable": "MaskablePPO",
    "sb3_contrib.qrdqn": "QRDQN", "sb3_contrib.tqc": "TQC", "sb3_contrib.ars": "ARS",
    "sb3_contrib.crossq": "CrossQ",
}  # fmt: skip
FIELDS = {  # in the order of asking: a hyperparameter that only this algorithm has
    "PPO": "clip_range", "TRPO": "cg_max_steps", "SAC": "target_entropy", "TD3 or DDPG": "policy_delay",
    "DQN": "exploration_fraction", "ARS": "delta_std", "A2C": "gae_lambda",
}  # fmt: skip
READ = ("PPO", "A2C")
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")


def read_sb3_zip(path: str | Path, made: Environment, statistics: Statistics | None = None) -> Policy:
    """Return our policy with the weights of a zip that `model.save` wrote, for an environment. Its distributions are
    the model's own on observations normalised by the statistics. Raises UserError for what is refused."""
    weights, data = read_zip(path)
    algorithm = algorithm_of(data)
    policy = import_weights(weights, data, made, statistics, path, algorithm)
    net, kwargs = policy.config, data["policy_kwargs"]
    default = "" if "activation_fn" in kwargs or not (net.hidden or net.critic_hidden) else " (its default)"
    seen = "normalised by the statistics given" if statistics else (
        "raw: it does not say whether training normalised them; if VecNormalize did, give --obs-stats FILE"
    )  # fmt: skip
    tell(f"{path} is read as {algorithm} of Stable-Baselines3, {net.activation}{default}, observations {seen}")
    return policy


def read_zip(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns (weights, `data` as plain values) of an SB3 file, without running what it holds."""
    try:
        content = read_own(path, follow=True)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_claims(archive, len(content))
            data = json.loads(archive.read("data"))  # its pickles stay base64 text
            if not isinstance(data, dict) or not isinstance(data.get("policy_kwargs"), dict):
                raise ValueError("it is not laid out as SB3 does")
            refuse_others(data, path)
            weights = plain_weights(read_torch(archive.read("policy.pth")))
    except UserError:
        raise
    except UNREADABLE as error:
        raise cannot_read(path, WHAT, error) from error
    return weights, data


def algorithm_of(data: Mapping[str, Any]) -> str:
    """Return the algorithm's name, by the policy's module or the hyperparameters; "" where it is not known."""
    module = str(_entry(data.get("policy_class"), "__module__"))
    for prefix, name in MODULES.items():
        if module.startswith(prefix + "."):
            return name
    return next((name for name, key in FIELDS.items() if key in data), "")


def refuse_others(data: Mapping[str, Any], where: str | Path) -> None:
    """Raises UserError for what is neither PPO nor A2C, explores by gSDE, or looks through networks of its own."""
    algorithm, kwargs = algorithm_of(data), data["policy_kwargs"]
    if algorithm not in READ:
        raise UserError(
            f"{where} is {algorithm or 'a model of an unknown algorithm'} of Stable-Baselines3; only policies of PPO "
            "and A2C can be read"
        )
    if data.get("use_sde") or kwargs.get("use_sde"):
        raise UserError(f"{where} was trained with use_sde, a noise that ours cannot have; train it without")
    module = str(_entry(data.get("policy_class"), "__module__") or "stable_baselines3.common.policies")
    if module != "stable_baselines3.common.policies":
        raise UserError(f"{where} has a policy class of its own, of {module}; only SB3's own can be read")
    extractor = str(kwargs.get("features_extractor_class", EXTRACTORS[0]))
    if not any(name in extractor for name in EXTRACTORS):
        raise UserError(
            f"{where} has the features extractor {extractor}; only {', '.join(EXTRACTORS[:2])} and {EXTRACTORS[2]} "
            "can be read"
        )


def import_weights(
    weights: Mapping[str, Tensor], data: Mapping[str, Any], made: Environment, statistics: Statistics | None,
    where: str | Path, algorithm: str,
) -> Policy:  # fmt: skip
    """Return our policy with an ActorCriticPolicy's weights."""
    kwargs, theirs = data["policy_kwargs"], spaces_text(data)
    activation = activation_named(str(kwargs.get("activation_fn", "Tanh")), where)
    try:
        networks = Networks(
            actor=[*layers(weights, "mlp_extractor.policy_net"), one_layer(weights, "action_net")],
            critic=[*layers(weights, "mlp_extractor.value_net"), one_layer(weights, "value_net")],
            trunk=layers(weights, "mlp_extractor.shared_net"),  # before SB3 1.8
            activation=activation, log_std=weights.get("log_std", torch.empty(0)), statistics=statistics, theirs=theirs,
            **_pictures(weights, kwargs, made),
        )  # fmt: skip
    except KeyError as error:
        raise cannot_read(where, WHAT, ValueError(f"it has no {error} among {', '.join(weights)[:300]}")) from None
    if isinstance(made.action, gymnasium.spaces.MultiBinary):
        weight, bias = networks.actor[-1]
        networks = replace(networks, actor=[*networks.actor[:-1], (two_logits(weight), two_logits(bias))])
    try:
        networks = with_inputs(networks, columns(data, networks, made), _scale(data, networks, made))
    except KeyError:
        raise unfit(where, theirs, made.env_id, made.spaces) from None
    return policy_of(networks, made.spaces, made.env_id, made.env, where)


def _pictures(weights: Mapping[str, Tensor], kwargs: Mapping[str, Any], made: Environment) -> dict[str, Any]:
    """The parameters of the CNNs, one for each of our pictures, in their order."""
    parts = [part for part in made.spaces.parts if part.picture]
    if not any(".cnn." in name for name in weights):
        return {}
    separate = kwargs.get("share_features_extractor") is False
    found = {}
    for ours, prefix in {"pictures": "pi_" * separate, "critic_pictures": "vf_"}.items():
        if ours == "pictures" or separate:
            found[ours] = [_picture(weights, f"{prefix}features_extractor", part, kwargs) for part in parts]
    return found


def _picture(weights: Mapping[str, Tensor], prefix: str, part: Part, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    own = f"{prefix}.extractors.{part.name}" if part.name else prefix
    found = nature(weights, f"{own}.cnn", f"{own}.linear.0")
    if kwargs.get("normalize_images") is False:  # ours divides by 255
        found["0.weight"] = found["0.weight"] * 255
    return found


def columns(data: Mapping[str, Any], networks: Networks, made: Environment) -> np.ndarray:
    """Tells where each of our inputs is among SB3's: theirs keep the order of the Dict that was saved, and pictures
    that are read as numbers have their channels first. Raises KeyError for a Dict of other keys."""
    parts, seen = made.spaces.parts, bool(networks.pictures)
    shape = made.observation.shape or ()
    if _image(data, made) and not seen and np.argmin(shape) != 0:
        return np.arange(made.spaces.obs_size).reshape(shape[-1], *shape[:-1]).transpose(1, 2, 0).ravel()
    features = networks.pictures[0]["7.weight"].shape[0] if seen else 0
    text, names = str(_entry(data.get("observation_space"), "spaces")), [part.name for part in parts]
    theirs = sorted(names, key=lambda name: _place(name, text)) if text else names  # else it was flattened before
    return places(parts, theirs, features)


def places(parts: Sequence[Part], theirs: Sequence[str], features: int) -> np.ndarray:
    """Tells where each of our inputs is among those of who keeps the order `theirs` of the parts. Pictures have so many
    features; 0: they are read as numbers."""
    seen = {part.name: bool(part.picture and features) for part in parts}
    sizes = {part.name: features if seen[part.name] else int(np.prod(part.shape)) for part in parts}
    ends = np.cumsum([sizes[name] for name in theirs])
    at = {name: np.arange(end - sizes[name], end) for name, end in zip(theirs, ends, strict=True)}
    ours = sorted(parts, key=lambda part: seen[part.name])  # stable: numbers first, then pictures
    return np.concatenate([at[part.name] for part in ours])


def _place(name: str, text: str) -> int:
    """Where a key stands in a Dict's text. Raises KeyError if it is not there."""
    found = re.search(rf"'{re.escape(name)}'[:,] ", text)
    if found is None:
        raise KeyError(name)
    return found.start()


def _image(data: Mapping[str, Any], made: Environment) -> bool:
    """Whether SB3 took the observation for an image: it was not flattened before."""
    space, theirs = made.observation, _entry(data.get("observation_space"), "_shape")
    if not isinstance(space, Box) or len(space.shape) != 3 or space.dtype != np.uint8 or len(theirs or ()) != 3:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def _scale(data: Mapping[str, Any], networks: Networks, made: Environment) -> float:
    """What SB3 multiplies an image by that is read as numbers."""
    whole = data["policy_kwargs"].get("normalize_images") is False or networks.pictures or not _image(data, made)
    return 1.0 if whole else 1 / 255


def two_logits(rows: Tensor) -> Tensor:
    """Makes the choice of two, which we have for each bit, of SB3's one logit, that of 1: (n, ...) -> (2 n, ...), that
    of 0 being 0."""
    return torch.stack([torch.zeros_like(rows), rows], 1).flatten(0, 1)


def spaces_text(data: Mapping[str, Any]) -> str:
    """Say what the file says of its spaces, in a few words."""
    said = []
    for name in ("observation", "action"):
        space = data.get(f"{name}_space")
        kind = str(_entry(space, ":type:")).rpartition(".")[2].strip("'>")
        inner = next((str(_entry(space, key)) for key in ("spaces", "n", "nvec", "_shape") if _entry(space, key)), "?")
        said.append(f"{name}s {kind}({inner[:160].strip('[]')})")
    return ", ".join(said)


def _entry(value: Any, key: str) -> Any:
    return value.get(key, "") if isinstance(value, Mapping) else ""
