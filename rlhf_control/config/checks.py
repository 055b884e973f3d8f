"""What all configs have in common: checks of their values in the words of the command line, what `help` says of them,
and the way back from JSON."""

import ast
import math
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rlhf_control.errors import UserError, unknown_name

POSITIONAL = "positional"  # in a field's Annotated: the command line takes it without its name
GROUPS = ("ppo", "net", "reward", "reference", "annotator", "query", "human", "guard")  # configs within configs
RENAMED = {"query.tries": "query.attempts"}  # an option in older runs and command lines -> what it is called now


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


def typed(config: Any) -> None:
    """Raises UserError unless every field holds a value of its type (the command line sees to it by itself)."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, dict):
            value = plain(value)
            object.__setattr__(config, name, value)
        if not fits(value, hint):
            choices = choices_of(hint)
            wrong = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            if choices and isinstance(wrong, str):
                raise unknown_name(flag(config, name), wrong, choices)
            kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
            raise UserError(f"{flag(config, name)} is {reprlib.repr(value)} ({kind}); it takes {type_text(hint)}")
        if not is_unicode(value):  # or it could not be written down
            raise UserError(f"{flag(config, name)} is {reprlib.repr(value)}, which is not UTF-8; write it in UTF-8")


def plain(value: Any) -> Any:
    """Returns an environment's arguments as JSON has them: NumPy's scalars and arrays as Python's numbers and lists."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(entry) for entry in value)
    return value.tolist() if type(value).__module__ == "numpy" else value


def fits(value: Any, hint: Any) -> bool:
    """Tells whether a value is of this type: whole numbers count as float, but neither bool nor NumPy's as int."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):  # the latter of a Literal or None
        return any(fits(value, kind) for kind in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(entry, inner[0]) for entry in value)
    if origin is dict:  # of an environment's arguments, which Python may give lists as well
        plain = inner[1] | list | tuple | None
        return isinstance(value, dict) and all(isinstance(k, str) and fits(v, plain) for k, v in value.items())
    if hint is float and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, hint) and (hint is not int or not isinstance(value, bool))


def is_unicode(value: Any) -> bool:
    """Tells whether the texts in a field's value are such: Python keeps other bytes of a command line as lone
    surrogates."""
    if isinstance(value, dict):
        return all(is_unicode(text) for pair in value.items() for text in pair)
    if isinstance(value, list | tuple):
        return all(is_unicode(entry) for entry in value)
    return not isinstance(value, str) or not any("\ud800" <= letter <= "\udfff" for letter in value)


def choices_of(hint: Any) -> tuple[str, ...]:
    """Returns the choices of a Literal, or of a tuple of such; of other types none."""
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) is Literal else ()


def type_text(hint: Any) -> str:
    """Says a type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union, Literal):
        return " or ".join(repr(kind) if isinstance(kind, str) else type_text(kind) for kind in inner)
    if origin in (tuple, dict):
        return f"{origin.__name__} of {' to '.join(type_text(kind) for kind in inner if kind is not ...)}"
    return "None" if hint is NoneType else hint.__name__


def flag(config: object, name: str) -> str:
    """Returns the option's name on the command line: ppo.lr, labels, ..."""
    cls = config if isinstance(config, type) else type(config)
    group = cls.__name__.removesuffix("Config").lower()
    return f"{group}.{name}" if group in GROUPS else name


def from_dict(cls: Any, values: Mapping[str, Any]) -> Any:
    """Makes a config from its `dataclasses.asdict`, possibly by way of JSON. What was written before there were the
    options in its BEFORE gets what they were then."""
    hints = get_type_hints(cls)
    values = {RENAMED.get(flag(cls, k), k).rpartition(".")[2]: v for k, v in values.items()}
    values = {**dict(getattr(cls, "BEFORE", ())), **values}
    known = {k: v for k, v in values.items() if k in hints}
    if known.keys() != values.keys():
        raise UserError(
            f"the config has unknown fields {sorted(values.keys() - known.keys())}; it is of another version"
        )
    return cls(**{
        k: from_dict(hints[k], v) if is_dataclass(hints[k]) else tuple(v) if isinstance(v, list) else v
        for k, v in known.items()
    })  # fmt: skip


# -- what `help` says

C = TypeVar("C", bound=type)


def explained(cls: C) -> C:
    """Has `help` explain every field of a config, by the text under it in the source."""
    cls.__doc__ = Explanation(cls.__doc__ or "")  # type: ignore[assignment]
    return cls


class Explanation:
    """Makes a docstring when it is read: the source is not parsed on every start."""

    def __init__(self, summary: str) -> None:
        self.summary = summary

    def __get__(self, _: object, cls: Any) -> str:
        texts, hints = field_texts(cls), get_type_hints(cls)
        lines = [_field_line(f, hints[f.name], texts.get(f.name, "")) for f in fields(cls)]
        return "\n".join([self.summary.rstrip(), "", "Attributes:", *lines])


def summary(cls: Any) -> str:
    """Returns a config's docstring without its fields."""
    doc = vars(cls)["__doc__"]
    return doc.summary if isinstance(doc, Explanation) else doc


def field_texts(cls: type) -> dict[str, str]:
    """Returns the text under each field in the source, on one line."""
    body = _classes(sys.modules[cls.__module__].__file__ or "")[cls.__name__].body
    found = {}
    for statement, following in pairwise(body):
        text = following.value if isinstance(following, ast.Expr) else None
        if isinstance(statement, ast.AnnAssign) and isinstance(text, ast.Constant):
            assert isinstance(statement.target, ast.Name)
            found[statement.target.id] = " ".join(str(text.value).split())
    return found


@lru_cache
def _classes(path: str) -> dict[str, ast.ClassDef]:
    """The classes of a source file."""
    return {node.name: node for node in ast.parse(Path(path).read_bytes()).body if isinstance(node, ast.ClassDef)}


def _field_line(f: "Field[Any]", hint: Any, text: str) -> str:
    """In Google's style, which tyro leaves out of what it shows of the class."""
    if is_dataclass(hint):
        text = " ".join(summary(hint).split())
    elif f.default is not MISSING:
        return f"    {f.name} ({type_text(hint)}, default {f.default!r}): {text}"
    return f"    {f.name} ({type_text(hint)}): {text}"
