"""A command's config from options in a file: what the command line makes of its arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from rlhf_control.config.options import with_options
from rlhf_control.config.presets import from_file, preset
from rlhf_control.config.training import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError, unknown_name

CONFIGS: dict[str, type] = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
ABOUT = {"pretrain": "env_id", "finetune": "policy"}  # the option that stands on the command line without its name


def config_of(
    command: str, options: Mapping[str, Any], begin: Callable[[Any], Any] | None = None
) -> PretrainConfig | FinetuneConfig:
    """Makes a command's config of nested options, which count on top of a preset that they name or of what `begin`
    makes of the default config, if anything. Raises UserError, with the nearest names, for an unknown option, and for
    what the command line would refuse."""
    if command not in CONFIGS:
        raise unknown_name("command", command, CONFIGS)
    given = {name.replace("-", "_"): value for name, value in options.items()}
    about, name = given.pop(ABOUT[command], None), given.get("preset", "")
    if not isinstance(about, str):
        raise UserError(f"{ABOUT[command]} is missing; {command} needs it")
    if command == "pretrain" and name:
        start: Any = preset(about, name)
    else:
        default = FinetuneConfig(about, given.get("env_id", "")) if command == "finetune" else PretrainConfig(about)
        start = (begin and begin(default)) or default
        start = from_file(start, name) if name else start
    env = {**start.env, **given.get("env", {})}
    return with_options(start, given | {"env": env, "preset": start.preset})
