"""Checkpoints of RLlib's PPO on its new API stack (2.5x, 2.6x), read into policies without RLlib.

The weights are a pickle of plain arrays, read as data: three names are allowed. Actions of a bounded Box are in [-1, 1]
there, and are told here in the environment's units. A MeanStdFilter's statistics, if it had one, lie beside them.
"""

import base64
import io
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.data import Array
from rlhf_control.errors import UserError, tell
from rlhf_control.interop.environments import Environment
from rlhf_control.interop.networks import Networks, activation_named, in_environment_units, layers, policy_of
from rlhf_control.interop.pickles import NUMPY, Record, as_array, read_pickle
from rlhf_control.interop.statistics import Statistics
from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, plain_weights
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import read_own
from rlhf_control.runs.npz import FREE, inflate

WHAT = "a checkpoint of RLlib's PPO"
MODULE = Path("learner_group/learner/rl_module/default_policy")  # in an algorithm's checkpoint
WEIGHTS, ARGUMENTS = "module_state.pkl", "class_and_ctor_args.pkl"
FILTER = Path("env_runner/env_to_module_connector/MeanStdFilter/state.pkl")
ALLOWED = {"collections OrderedDict"} | NUMPY  # for weights: OrderedDict, _frombuffer and dtype
EPSILON = 1e-6  # RLlib divides by the standard deviation plus this
MOST_SHAPE = 2**24  # numbers of an array in a filter


def read_rllib(path: str | Path, made: Environment, statistics: Statistics | None = None) -> Policy:
    """Return our policy with the weights of a checkpoint, or of its RLModule's folder alone. `statistics` take the
    place of those that it has. Raises UserError for what is no such policy."""
    root = Path(path)
    folder = root / MODULE if (root / MODULE).is_dir() else root
    try:
        weights = read_weights(folder)
        config = model_config(folder)
        own = read_filter(root / FILTER) if (root / FILTER).is_file() else None
        _refuse_others(config, path)
        networks = Networks(
            **_towers(weights, path), activation=_activation(config, path), log_std=_log_std(weights, made)
        )
    except UserError:
        raise
    except (*UNREADABLE, zlib.error) as error:
        raise cannot_read(path, WHAT, error) from None
    networks = in_environment_units(replace(networks, statistics=statistics or own), made.spaces)
    policy = policy_of(networks, made.spaces, made.env_id, made.env, path)
    said = "normalised by " + ("the statistics given" if statistics else "its MeanStdFilter")
    said = said if statistics or own else "raw: it has no MeanStdFilter"
    default = "" if "fcnet_activation" in config else " (the default)"
    critic = "" if networks.critic is not None else "; it has no critic, which begins anew"
    tell(
        f"{path} is read as PPO of RLlib{version_of(root)}, {policy.config.activation}{default}, actions of a bounded "
        f"Box in [-1, 1] there (its default) and here in the environment's units, observations {said}{critic}"
    )
    return policy


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of an RLModule's folder. Raises one of UNREADABLE."""
    if not (folder / WEIGHTS).is_file():
        packed = (folder / "module_state.msgpack").is_file()
        raise ValueError(f"{'use_msgpack=True' if packed else f'there is no {MODULE / WEIGHTS}'}; save it as a pickle")
    found = read_pickle(_content(folder / WEIGHTS), ALLOWED)
    if not isinstance(found, Mapping):
        raise ValueError("it holds no weights")
    return plain_weights({name: torch.from_numpy(as_array(value)) for name, value in found.items()})


def model_config(folder: Path) -> dict[str, Any]:
    """Return the model's options, as far as the folder says them."""
    with suppress(OSError):
        found = read_pickle(_content(folder / ARGUMENTS), Described())
        with suppress(KeyError, TypeError, IndexError, AttributeError):
            options = found["ctor_args_and_kwargs"][1]["model_config"]
            return dict(options.state if isinstance(options, Record) else options)
    return {}


class Described(frozenset[str]):
    """Allows the names with which RLlib describes a module of its own: each becomes an inert record."""

    def __contains__(self, name: object) -> bool:
        return str(name) in ALLOWED or str(name).startswith(("ray.rllib.", "gymnasium.spaces.", "numpy.random."))


def read_filter(path: Path) -> Statistics | None:
    """Read a MeanStdFilter's statistics. None: it has seen nothing, or does nothing."""
    state = read_pickle(_content(path), ALLOWED)
    ((_, agent),) = state.items()
    (stats,) = agent["running_stats"]
    count = int(as_array(stats["num_pushes"]))
    mean, squares = (unpacked(stats[name]) for name in ("mean_array", "sum_sq_diff_array"))
    if count < 2:
        return None
    if not (agent["de_mean_to_zero"] and agent["de_std_to_one"]):
        raise ValueError("a MeanStdFilter that takes off the mean only, or divides only, is not known here")
    var = (np.sqrt(squares / (count - 1)) + EPSILON) ** 2  # RLlib adds its epsilon outside the root
    return Statistics({"": mean}, {"": var}, count, float(agent["clip_by_value"] or 1e30), 0.0)


def unpacked(text: Any) -> Array:
    """Return an array that RLlib wrote as text: base64 of a compressed .npy. Raises ValueError or zlib.error."""
    content = inflate(base64.b64decode(str(text), validate=True), FREE)
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = header(file, max_header_size=10_000)
    rest = content[file.tell() :]
    if dtype.kind not in "fiu" or fortran or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(rest):
        raise ValueError(f"an array {shape} of {dtype} in {len(rest):,} bytes")
    return np.frombuffer(rest, dtype).astype(np.float64)


def _content(path: Path) -> bytes:
    content = read_own(path, follow=True)
    if len(content) > 4 * FREE:
        raise ValueError(f"{path.name} has {len(content):,} bytes")
    return content


def _towers(weights: Mapping[str, Tensor], where: str | Path) -> dict[str, Any]:
    """The layers of both networks: encoders, which may be one, and heads."""
    heads = {name: layers(weights, f"{name}.net.mlp") for name in ("pi", "vf")}
    names = ("encoder", "actor_encoder", "critic_encoder")
    encoders = {name: layers(weights, f"encoder.{name}.net.mlp") for name in names}
    known = ("pi.log_std", "vf.log_std")
    strange = [name for name in weights if ".net.mlp." not in name and not name.startswith(known)]
    if strange or not heads["pi"]:
        what = strange[0] if strange else "no pi.net.mlp"
        raise UserError(f"{where} has {what}; of RLlib only PPO's fully connected networks can be read")
    if encoders["encoder"]:
        return {"trunk": encoders["encoder"], "actor": heads["pi"], "critic": heads["vf"] or None}
    critic = [*encoders["critic_encoder"], *heads["vf"]] if heads["vf"] else None
    return {"actor": [*encoders["actor_encoder"], *heads["pi"]], "critic": critic}


def _log_std(weights: Mapping[str, Tensor], made: Environment) -> Tensor | None:
    """One for all states, where the checkpoint has it; none of choices; else the network puts it out."""
    return torch.empty(0) if made.spaces.choices else weights.get("pi.log_std")


def _activation(config: Mapping[str, Any], where: str | Path) -> str:
    used = {str(config.get("fcnet_activation", "tanh"))}
    if config.get("head_fcnet_hiddens"):
        used.add(str(config.get("head_fcnet_activation", "relu")))
    if len(used) > 1:
        raise UserError(f"{where} has {' and '.join(sorted(used))} layers; ours are of one kind each")
    return activation_named(used.pop(), where)


def _refuse_others(config: Mapping[str, Any], where: str | Path) -> None:
    for name in ("use_lstm", "fcnet_use_layernorm", "head_fcnet_use_layernorm"):
        if config.get(name):
            raise UserError(f"{where} has {name}; of RLlib only PPO's plain fully connected networks can be read")


def version_of(path: Path) -> str:
    """Return a space and the version that wrote a checkpoint, or nothing."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return f" {json.loads(_content(path / 'rllib_checkpoint.json'))['ray_version']}"
    return ""
