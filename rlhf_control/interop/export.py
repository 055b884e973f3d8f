"""Policies written for other libraries: Stable-Baselines3, CleanRL and TorchScript. Each acts as ours does."""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.errors import UserError
from rlhf_control.interop.networks import untied
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import write_atomic
from rlhf_control.spaces import float32_bounds

SUFFIXES = {"npz": ".npz", "sb3": ".zip", "cleanrl": ".cleanrl_model", "torchscript": ".pt"}


def export(policy: Policy, to: str, out: str | Path = "") -> list[Path]:
    """Write a policy for another library, at `out` (default: policy with the format's suffix), and return the files
    written. Raises UserError for a policy that the format cannot hold."""
    if policy.spaces.tokens and to != "npz":
        raise UserError(f"a policy that reads tokens has no form in {to}; use --to npz, and `load_policy` reads it")
    path = Path(out or f"policy{SUFFIXES[to]}")
    if path.exists() and path.suffix != SUFFIXES[to]:  # what is there is something else
        raise UserError(f"{path} is there, and no *{SUFFIXES[to]} file, as --to {to} writes; name another --out")
    writers: dict[str, Callable[[Policy, Path], list[Path]]] = {
        "npz": _npz, "sb3": _sb3, "cleanrl": export_cleanrl, "torchscript": export_torchscript
    }  # fmt: skip
    return writers[to](policy, path)


def _npz(policy: Policy, path: Path) -> list[Path]:
    policy.save(path)
    return [path]


def _sb3(policy: Policy, path: Path) -> list[Path]:
    from rlhf_control.interop.sb3_policies import export_sb3

    return export_sb3(policy, path)


# -- CleanRL


def export_cleanrl(policy: Policy, path: Path) -> list[Path]:
    """Write the state dict of the Agent of ppo_continuous_action.py (or ppo.py), and beside it the statistics that its
    NormalizeObservation wrapper had, as NAME.obs_stats.npz."""
    net, choices = policy.config, policy.spaces.choices
    if policy.encoder.seen or net.state_dependent_std or net.activation != "tanh" or len(choices) > 1:
        raise UserError(
            "CleanRL's PPO has tanh networks, one noise for all states and no pictures; use --to torchscript"
        )
    actor = "actor" if choices else "actor_mean"
    weights = {name.replace("actor.", f"{actor}."): tensor for name, tensor in untied(policy).items()}
    if not choices:
        weights["actor_logstd"] = weights.pop("log_std")[None]
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_atomic(path, buffer.getvalue())
    return [path, *write_statistics(policy, path)]


def write_statistics(policy: Policy, path: Path) -> list[Path]:
    """Write what `--obs-stats` reads, as NAME.obs_stats.npz, where the policy normalises its observations."""
    norm = policy.obs_norm
    if not norm.count:
        return []
    buffer = io.BytesIO()
    numbers = {name: tensor.numpy() for name, tensor in norm.state_dict().items()}
    np.savez(buffer, clip=norm.clip, epsilon=1e-8, **numbers)
    written = path.with_suffix(".obs_stats.npz")
    write_atomic(written, buffer.getvalue())
    return [written]


# -- TorchScript


class Standalone(nn.Module):
    """Acts on raw observations (B, O), flat and in the order of `gymnasium.spaces.flatten`, as float32: the mode,
    within a Box's bounds. The normaliser is in it."""

    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    choices: list[int]

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        policy = policy.frozen()
        mean, scale = policy.obs_norm.mean_and_scale()
        low, high = (torch.from_numpy(bound.copy()) for bound in float32_bounds(policy.spaces.low, policy.spaces.high))
        for name, tensor in {"mean": mean, "scale": scale, "low": low, "high": high}.items():
            self.register_buffer(name, tensor)
        self.limit = float(policy.obs_norm.limit)
        self.body = nn.Sequential(*policy.trunk, *policy.actor)
        self.choices = list(policy.spaces.choices)
        self.action_size = policy.spaces.action_size

    def forward(self, obs: Tensor) -> Tensor:
        """Return actions (B, A) or choices (B, G)."""
        seen = ((obs - self.mean) * self.scale).clamp(-self.limit, self.limit)
        out = self.body(seen)
        if len(self.choices) > 0:
            return torch.stack([logits.argmax(-1) for logits in out.split(self.choices, -1)], -1)
        return torch.minimum(torch.maximum(out[..., : self.action_size], self.low), self.high)


def export_torchscript(policy: Policy, path: Path) -> list[Path]:
    """Write a module that `torch.jit.load` reads, in Python or C++: raw observations (B, O) float32 to actions. Its
    extra file policy.json names environment and spaces."""
    if policy.encoder.seen:
        raise UserError("only policies that see no pictures can be exported to TorchScript; use --to sb3")
    facts = {"env_id": policy.env_id, "env": policy.env, "spaces": policy.spaces.state()}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit itself
        module = torch.jit.script(Standalone(policy).eval())
        torch.jit.save(module, buffer, _extra_files={"policy.json": json.dumps(facts)})
    write_atomic(path, buffer.getvalue())
    return [path]
