"""What a search is about: a task's id, or a file with options, metric and search space."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig
from rlhf_control.config.options import read_toml
from rlhf_control.config.requests import CONFIGS, config_of
from rlhf_control.config.search_space import SPACES, check_space, flat, read_space
from rlhf_control.config.sweeps import TuneConfig
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.sweeps.tune import Search

KEYS = ("command", "metric", "options", "space")


def read_search(config: TuneConfig, begin: Callable[[Any], Any] | None = None) -> tuple[Search, dict[str, Any]]:
    """Reads what is to be searched, and what the report says of it. `begin`: as in `config_of`. Raises UserError, with
    the file's name."""
    is_file = config.what.endswith(".toml")
    file = read_toml(config.what) if is_file else {"command": "pretrain", "options": {"env_id": config.what}}
    try:
        return _read(file, config, begin)
    except UserError as error:
        raise UserError(f"{config.what}: {error}") from None


def _read(
    file: dict[str, Any], config: TuneConfig, begin: Callable[[Any], Any] | None
) -> tuple[Search, dict[str, Any]]:
    for key in file:
        if key not in KEYS:
            raise unknown_name("key", key, KEYS)
    command, options = file.get("command"), dict(file.get("options", {}))
    if command not in CONFIGS:
        raise unknown_name("command", str(command), CONFIGS)
    start = config_of(command, options, begin)
    if config.total_steps:
        options["total_steps"] = config.total_steps
        start = replace(start, total_steps=config.total_steps)
    if start.seed or start.seeds or start.out:
        raise UserError("seed, seeds and out are no options of a search; --seed and --out are its own")
    if isinstance(start, FinetuneConfig):
        if start.asks_people():
            raise UserError("a search cannot ask people; name an oracle")
        start = replace(start, video=False)
    space = read_space(file.get("space", {}), start) or SPACES[command]
    check_space(space, start)
    metric = file.get("metric", "score" if command == "finetune" else "env_return")
    search = Search(start, space, metric, Path(config.folder()), config.trials, config.seed, config.prune)
    return search, {"command": command, "metric": metric, "options": flat(options)}
