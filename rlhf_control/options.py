"""What all configs have in common: checks of their values in the words of the command line, and the way back from
JSON."""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rlhf_control.errors import UserError, unknown_name

GROUPS = ("ppo", "net", "reward", "reference", "annotator", "query", "human", "guard")  # configs within configs


def positive(config: object, *names: str) -> None:
    """Raises UserError unless these are finite and above 0; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{flag(config, name)} is {value}; it must be positive and finite")


def within(config: object, *names: str, low: float, high: float) -> None:
    """Raises UserError unless low <= value <= high."""
    for name in names:
        if not low <= getattr(config, name) <= high:
            raise UserError(f"{flag(config, name)} is {getattr(config, name)}; it must lie in [{low}, {high}]")


def chosen(config: object) -> None:
    """Raises UserError unless every Literal field holds one of its choices (the command line sees to it by itself)."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise unknown_name(flag(config, name), str(getattr(config, name)), get_args(hint))


def flag(config: object, name: str) -> str:
    """The option's name on the command line: ppo.lr, labels, ..."""
    group = type(config).__name__.removesuffix("Config").lower()
    return f"{group}.{name}" if group in GROUPS else name


def from_dict(cls: Any, values: Mapping[str, Any]) -> Any:
    """A config from its `dataclasses.asdict`, possibly by way of JSON."""
    hints = get_type_hints(cls)
    known = {k: v for k, v in values.items() if k in hints}
    if known.keys() != values.keys():
        raise UserError(
            f"the config has unknown fields {sorted(values.keys() - known.keys())}; it is of another version"
        )
    return cls(**{
        k: from_dict(hints[k], v) if is_dataclass(hints[k]) else tuple(v) if isinstance(v, list) else v
        for k, v in known.items()
    })  # fmt: skip
