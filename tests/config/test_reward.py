"""Options of the reward and of its guards: what cannot be."""

import pytest

from rlhf_control.config import GuardConfig, RewardConfig
from rlhf_control.errors import UserError


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: RewardConfig(bootstrap=1.5), "bootstrap"),
        (lambda: RewardConfig(inputs="states"), r"reward\.inputs"),  # type: ignore[arg-type]
        (lambda: RewardConfig(lr=-1), r"reward\.lr"),
        (lambda: RewardConfig(hidden=(0,)), "hidden"),
        (lambda: GuardConfig(alarm="shout"), r"guard\.alarm"),  # type: ignore[arg-type]
        (lambda: GuardConfig(window=0), r"guard\.window"),
    ],
)
def test_impossible_values_are_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make()  # type: ignore[operator]
