"""From what a user names to a policy: ours, or the file of another library, which is read without that library."""

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import as_options, own_policy

SB3, TORCH, RLLIB = "Stable-Baselines3", "torch", "RLlib"
NO_ZIP = (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile)
RLLIB_FILES = ("rllib_checkpoint.json", "module_state.pkl", "module_state.msgpack")


def foreign_kind(name: str | Path) -> str:
    """Return whose file or folder this seems to be: SB3, TORCH (CleanRL, rsl_rl), RLLIB, or "" for ours."""
    path = Path(name)
    if path.is_dir():
        return RLLIB if any((path / file).is_file() for file in RLLIB_FILES) else ""
    names: set[str] = set()
    with suppress(*NO_ZIP), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    if {"data", "policy.pth"} & names or (path.suffix == ".zip" and path.is_file()):
        return SB3
    weights = path.suffix in (".pt", ".pth", ".cleanrl_model") and path.is_file()
    return TORCH if weights or any(entry.endswith("/data.pkl") for entry in names) else ""


def foreign_options(config: Any) -> dict[str, Any]:
    """Return what a command's options say of a file of another library, for `find_policy`."""
    return {"env": config.env, "obs_stats": config.obs_stats, "trust": config.trust}


def find_each(names: Sequence[str], config: Any) -> list[Policy]:
    """Return the policies that a command names. Its options for files of other libraries are for those that are."""
    if not any(foreign_kind(name) for name in names):
        return [find_named(name, config) for name in names]
    return [find_named(name, config) if foreign_kind(name) else find_policy(name, config.env_id) for name in names]


def find_named(name: str, config: Any) -> Policy:
    """Return the policy that a command names. Raises UserError where `--env-id` and `--env` ask for another environment
    than that of a policy of ours, which knows its own."""
    policy = find_policy(name, config.env_id, **foreign_options(config))
    own = {"--env-id": policy.env_id, **policy.env}
    wanted = ({"--env-id": config.env_id} if config.env_id else {}) | config.env
    other = next((option for option, value in wanted.items() if own.get(option) != value), None)
    if other is None or foreign_kind(name):
        return policy
    asked = f"--env {other} {wanted[other]}" if other in config.env else f"{other} {wanted[other]}"
    raise UserError(
        f"{name} is for {policy.env_id}{as_options(policy.env)}, and {asked} would make that another environment; "
        "leave it out, or name a policy of that one"
    )


def find_policy(
    name: str | Path, env_id: str = "", *, env: Mapping[str, Any] | None = None, obs_stats: str | Path = "",
    trust: bool = False,
) -> Policy:  # fmt: skip
    """Return the policy of a file, of a run's folder (its last, or its newest checkpoint's), of a shipped name, or of
    another library: a zip of Stable-Baselines3's PPO or A2C, a `*.cleanrl_model`, a checkpoint of RLlib's or rsl_rl's
    PPO.

    `env_id`: see `files.refuse_module`; for a file of another library, the environment that it is for, made with the
    arguments `env`. `obs_stats` is a file of its observation statistics; with `trust`, a pickled VecNormalize too.
    """
    kind = foreign_kind(name)
    if not kind:
        if obs_stats:
            raise UserError(f"{name} has its observation statistics in it, if any; leave --obs-stats out")
        return own_policy(name, env_id)
    if not env_id:
        raise UserError(f"{name} does not say which environment it is for; give --env-id ID")
    from rlhf_control.interop.environments import environment  # torch takes seconds to import
    from rlhf_control.interop.rllib import read_rllib
    from rlhf_control.interop.rsl_rl import read_torch_policy
    from rlhf_control.interop.sb3_zips import read_sb3_zip
    from rlhf_control.interop.statistics import read_statistics

    statistics = read_statistics(obs_stats, trust=trust) if obs_stats else None
    made = environment(env_id, env or {})
    return {SB3: read_sb3_zip, TORCH: read_torch_policy, RLLIB: read_rllib}[kind](name, made, statistics)
