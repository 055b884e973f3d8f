"""Options by name, from a TOML file or a search, as on the command line: `{"ppo": {"lr": 1e-4}}` is --ppo.lr 1e-4."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_control.errors import UserError, unknown_name


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads a TOML file. Raises UserError if it is missing or is not TOML."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None


def with_options(config: Any, options: Mapping[str, Any], prefix: str = "") -> Any:
    """Returns the config with these nested options in the place of its own."""
    known = {f.name for f in fields(config)}
    changes: dict[str, Any] = {}
    for given, value in options.items():
        name = given.replace("-", "_")
        if name not in known:
            raise unknown_name("option", f"{prefix}{given}", [f"{prefix}{other}" for other in known])
        old = getattr(config, name)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{name} is {value!r}; it is a group of options, such as {prefix}{name}.x = 1")
            changes[name] = with_options(old, value, f"{prefix}{name}.")
        else:
            changes[name] = tuple(value) if isinstance(value, list) else value
    return replace(config, **changes)


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"ppo.lr": 1} -> {"ppo": {"lr": 1}}."""
    tree: dict[str, Any] = {}
    for name, value in options.items():
        group, _, inner = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[inner] = value
    return tree


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of both; of those that both have, `above`'s."""
    tree = {name.replace("-", "_"): value for name, value in below.items()}
    for given, value in above.items():
        name = given.replace("-", "_")
        old = tree.get(name)
        tree[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return tree
