import numpy as np
import pytest
import torch

from rlhf_control.config import FinetuneConfig, RewardConfig
from rlhf_control.data import Answers
from rlhf_control.errors import UserError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.reward.known import make_reward, squares_wanted
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.squares import restandardise, with_squares
from tests.conftest import random_segments


def test_squares_worked_by_hand() -> None:
    """(3^2 - 1) / sqrt(2) = 5.66 is clipped, as 9 is; of 1 it is 0, of 0 -0.71."""
    found = with_squares(torch.tensor([[1.0, 0.0, -3.0, 9.0]]), 5.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, -3.0, 5.0, 0.0, -(0.5**0.5), 5.0, 5.0]]))


def test_a_first_layer_says_the_same_of_other_units() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(2, 6, 4, generator=generator), torch.randn(2, 1, 4, generator=generator)
    y, scale, shift = (
        torch.randn(7, 3, generator=generator),
        torch.tensor([2.0, 0.5, 1.0]),
        torch.tensor([0.3, -1.0, 0.0]),
    )
    before = bias + with_squares(scale * y + shift, 1e6) @ weight
    restandardise(weight, bias, scale, shift)
    torch.testing.assert_close(bias + with_squares(y, 1e6) @ weight, before, rtol=1e-4, atol=1e-5)


def test_a_model_with_squares_is_kept_and_goes_on(tmp_path) -> None:
    """A reward that is highest where the first number is 0 is learned from marks; the file knows of the squares, and
    new normalisers change nothing that it says."""
    clips = random_segments(np.random.default_rng(0), 80, 10)
    near = np.abs(clips.obs[:, -2:, 0]).mean(-1)
    answers = Answers(
        clips, np.arange(80)[:, None], np.zeros((80, 1), np.int64), np.full(80, 6), (near < np.median(near)) * 1.0
    )
    model = RewardModel(17, 6, RewardConfig(squares="on", members=2, hidden=(16,)))
    model.fit(answers, clips, np.random.default_rng(0))
    fresh = random_segments(np.random.default_rng(1), 50, 10)
    first = model.predict(fresh)
    assert np.corrcoef(first.ravel(), np.square(fresh.obs[..., 0]).ravel())[0, 1] < -0.3
    model.save(tmp_path / "reward.npz")
    np.testing.assert_array_equal(RewardModel.load(tmp_path / "reward.npz").predict(fresh), first)
    rows = torch.from_numpy(np.random.default_rng(2).normal(0.1, 1.1, (500, 23)).astype(np.float32))
    model._standardise_on(rows, keep_function=True)
    assert np.corrcoef(model.predict(fresh).ravel(), first.ravel())[0, 1] > 0.99


def test_they_are_for_marks_and_for_numbers() -> None:
    def wanted(config: FinetuneConfig, encoder=None) -> bool:
        return squares_wanted(config, encoder)

    marks = FinetuneConfig("", feedback=("success", "comparison"))
    assert (
        wanted(marks)
        and not wanted(FinetuneConfig(""))
        and wanted(FinetuneConfig("", reward=RewardConfig(squares="on")))
    )
    assert not wanted(FinetuneConfig("", feedback=("success",), shrink=0.1))
    assert not wanted(FinetuneConfig("", feedback=("success",), reward=RewardConfig(squares="off")))
    model = make_reward(marks, 3, 1, "")
    assert isinstance(model, RewardModel) and model.sizes[0] == 8 and model.inputs == 4
    pictures = object.__new__(Encoder)
    assert not wanted(marks, pictures)
    with pytest.raises(UserError, match="are numbers"):
        wanted(FinetuneConfig("", reward=RewardConfig(squares="on")), pictures)
