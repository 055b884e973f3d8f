import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.errors import UserError
from rlhf_control.reward.inputs import as_read, layer_sizes, parts_of


def test_parts_of_an_observation() -> None:
    assert parts_of((), 5) == [slice(0, 5)]
    assert parts_of(("1:3", "4", ":2", "3:"), 5) == [slice(1, 3), slice(4, 5), slice(0, 2), slice(3, 5)]
    for part in ("0:6", "5", "3:3", "4:2"):
        with pytest.raises(UserError, match=r"has the numbers 0:5"):
            parts_of((part,), 5)
    with pytest.raises(UserError, match="a part is an index or a range"):
        RewardConfig(obs_parts=("first",))


def test_what_goes_in_and_comes_out() -> None:
    assert layer_sizes(5, 2, RewardConfig(hidden=(8, 4))) == (7, 8, 4, 1)
    assert layer_sizes(5, 2, RewardConfig(hidden=(8,), obs_parts=("1:3",), inputs="state")) == (2, 8, 1)
    assert layer_sizes(5, 2, RewardConfig(hidden=(8,), squares="on")) == (14, 8, 1)


def test_inputs_are_clipped_and_may_have_their_squares_behind_them() -> None:
    x = torch.tensor([[-9.0, 2.0]])
    assert as_read(x, RewardConfig()).tolist() == [[-5.0, 2.0]]
    assert as_read(x, RewardConfig(squares="on")).shape == (1, 4)
