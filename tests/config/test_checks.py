import math
import pydoc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from rlhf_control.config.checks import explained, fits, flag, positive, summary, type_text, typed, within
from rlhf_control.errors import UserError


@dataclass
class PPOConfig:
    """Of PPO."""

    lr: float | None = 1.0
    kind: Literal["a", "bb"] = "a"


@dataclass
class OtherConfig:
    lr: float = 1.0


def test_the_names_are_those_of_the_command_line() -> None:
    assert flag(PPOConfig(), "lr") == "ppo.lr" and flag(OtherConfig(), "lr") == "lr"


def test_positive_and_finite() -> None:
    positive(PPOConfig(), "lr")
    positive(PPOConfig(lr=None), "lr")
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UserError, match=r"ppo\.lr is"):
            positive(PPOConfig(lr=value), "lr")


def test_within() -> None:
    within(PPOConfig(), "lr", low=1.0, high=1.0)
    for value in (0.99, 1.01, float("nan")):
        with pytest.raises(UserError, match=r"ppo\.lr is .* must lie in"):
            within(PPOConfig(lr=value), "lr", low=1.0, high=1.0)


def test_typed() -> None:
    typed(PPOConfig())
    typed(PPOConfig(lr=1))
    with pytest.raises(UserError, match="did you mean bb"):
        typed(PPOConfig(kind="bbb"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"ppo\.lr is '1' \(str\); it takes float or None"):
        typed(PPOConfig(lr="1"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3], [True, 1.0, "1", None, np.int64(1), [1]]),
        (float, [0, 1.5, math.nan, np.float64(1)], [True, "1", None, 10**400, np.float32(1)]),
        (bool, [True], [1, "yes", None, np.bool_(True)]),
        (str, ["", "a"], [1, None, b"a", Path("a")]),
        (float | None, [None, 1], ["None"]),
        (tuple[int, ...], [(), (1, 2)], [[1, 2], (1, "a"), 1, None]),
        (Literal["a", "b"], ["a"], ["c", None, 1, ["a"], np.ones(2)]),
        (dict[str, bool | int], [{}, {"a": 1, "b": (1, 2), "c": None}], [{1: 1}, {"a": object()}, None, [("a", 1)]]),
    ],
)
def test_what_fits(hint: Any, good: list, bad: list) -> None:
    assert all(fits(value, hint) for value in good) and not any(fits(value, hint) for value in bad)


def test_types_in_words() -> None:
    assert type_text(dict[str, bool | int]) == "dict of str to bool or int"
    assert type_text(tuple[Literal["a", "b"], ...]) == "tuple of 'a' or 'b'"
    assert type_text(PPOConfig) == "PPOConfig"


@explained
@dataclass
class Told:
    """A summary."""

    a: int = 3
    """What a
    is."""
    ppo: PPOConfig = field(default_factory=PPOConfig)


def test_help_explains_the_fields() -> None:
    shown = pydoc.plain(pydoc.render_doc(Told))
    assert "a (int, default 3): What a is." in shown and "ppo (PPOConfig): Of PPO." in shown
    assert summary(Told) == "A summary."
