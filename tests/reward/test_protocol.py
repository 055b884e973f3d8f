import inspect

import pytest

from rlhf_control.reward.known import KnownReward
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.protocol import Reward


@pytest.mark.parametrize("kind", [RewardModel, KnownReward])
def test_both_rewards_have_its_methods_with_its_parameters(kind: type) -> None:
    for name, method in inspect.getmembers(Reward, inspect.isfunction):
        if not name.startswith("_"):
            mine = inspect.signature(getattr(kind, name)).parameters
            assert list(mine) == list(inspect.signature(method).parameters), name
