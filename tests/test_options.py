from dataclasses import dataclass
from typing import Literal

import pytest

from rlhf_control.errors import UserError
from rlhf_control.options import chosen, flag, positive, within


@dataclass
class PPOConfig:
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


def test_chosen() -> None:
    chosen(PPOConfig())
    with pytest.raises(UserError, match="did you mean bb"):
        chosen(PPOConfig(kind="bbb"))  # type: ignore[arg-type]
