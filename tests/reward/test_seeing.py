"""Networks that see and are learned with the reward: pictures of a square, of which those further right are better."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import CorruptFileError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.pictures import Sight, layout
from rlhf_control.reward.fit import apart, together
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.reward.seeing import LearnedEncoders
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.spaces import Spaces

SPACES = Spaces.of(Box(0, 255, (12, 12, 1), np.uint8), Discrete(2))


def clips_of_squares(n: int, seed: int) -> tuple[Segments, np.ndarray]:
    """Clips (n, 6, 144), and how far right the square is in each, (n,)."""
    rng = np.random.default_rng(seed)
    at = np.clip(rng.integers(0, 9, (n, 1)) + rng.integers(-1, 2, (n, 6)), 0, 9)
    obs = np.zeros((n, 6, 12, 12), np.uint8)
    for i, j in np.ndindex(n, 6):
        obs[i, j, 4:7, at[i, j] : at[i, j] + 3] = 255
    action = rng.standard_normal((n, 6, 2)).astype(np.float32)
    flat = obs.reshape(n, 6, -1)
    return Segments(flat, action, flat, np.zeros((n, 6), np.float32)), at.mean(1)


def model_of(pictures: str, **options: object) -> RewardModel:
    config = RewardConfig(pictures=pictures, members=2, bootstrap=0.5, **options)  # type: ignore[arg-type]
    encoder = Encoder(SPACES.parts, torch.Generator().manual_seed(0), Sight("cnn", 16))
    return RewardModel(144, 2, config, "", encoder.frozen())


@pytest.mark.parametrize("pictures", ["heads", "networks"])
@pytest.mark.parametrize("start", ["scratch", "warm"])
def test_they_learn_what_is_better_and_a_file_brings_them_back(pictures: str, start: str, tmp_path: Path) -> None:
    clips, right = clips_of_squares(80, 0)
    pairs = Segments(**{name: a.reshape(40, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    answers = comparisons(pairs, (right[::2] > right[1::2]).astype(np.float32))
    model, again = model_of(pictures, start=start), model_of(pictures, start=start)
    assert not model.predict(clips).any()
    for reward in (model, again):
        metrics = reward.fit(answers, clips, np.random.default_rng(0))
    fair = {"heads": 20, "networks": 40}[pictures]  # heads hold out the same half, networks one each
    assert metrics["heldout_accuracy"] > 0.75 and metrics["fair_answers"] == fair
    fresh, known = clips_of_squares(60, 1)
    reward = model.predict(fresh)
    assert np.corrcoef(reward.mean(1), known)[0, 1] > 0.9
    np.testing.assert_array_equal(again.predict(fresh), reward)  # the same seed, the same bits
    model.save(tmp_path / "reward.npz")
    loaded = RewardModel.load(tmp_path / "reward.npz")
    np.testing.assert_array_equal(loaded.uncertainty(fresh), model.uncertainty(fresh))
    again.load_state(model.state())
    for each in (model, again):
        each.fit(answers, clips, np.random.default_rng(1))
    np.testing.assert_array_equal(again.predict(fresh), model.predict(fresh))
    noise = np.random.default_rng(2).integers(256, size=fresh.obs.shape).astype(np.uint8)
    novel = Segments(noise, fresh.action, noise, fresh.env_reward)
    assert model.uncertainty(novel).mean() > 2 * model.uncertainty(fresh).mean()


@pytest.mark.parametrize("pictures", ["heads", "networks"])
def test_coin_flips_are_not_predicted_where_they_were_held_out(pictures: str) -> None:
    """Heads share what they see with: what one member does not see must not be known to it by way of the others."""
    clips, _ = clips_of_squares(160, 0)
    pairs = Segments(**{name: a.reshape(80, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    flips = np.random.default_rng(1).integers(2, size=80).astype(np.float32)
    model = model_of(pictures, steps=100)
    metrics = model.fit(comparisons(pairs, flips), clips, np.random.default_rng(0))
    assert metrics["train_accuracy"] > 0.7 and metrics["heldout_accuracy"] < 0.7 and metrics["evidence"] < 3


def test_a_file_with_fewer_networks_than_members_is_refused(tmp_path: Path) -> None:
    model_of("networks").save(tmp_path / "reward.npz")
    state = load_state(tmp_path / "reward.npz")
    del state["encoder"]["encoders"]["1"]
    save_state(tmp_path / "reward.npz", state)
    with pytest.raises(CorruptFileError, match="1 networks for 2 members"):
        RewardModel.load(tmp_path / "reward.npz")


def test_each_member_reads_its_own_network() -> None:
    encoder = Encoder(SPACES.parts, torch.Generator().manual_seed(0), Sight("cnn", 16))
    each = LearnedEncoders.like(encoder, "networks", 3, torch.Generator().manual_seed(1))
    assert each.size == 192 and each.mask(2).squeeze(-1).tolist() == [
        [float(i // 64 == e) for i in range(192)] + [1.0, 1.0] for e in range(3)
    ]
    x = torch.randint(256, (3, 5, 144), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    whole = torch.stack([each(batch) for batch in x])
    torch.testing.assert_close(each.of_members(x), whole * each.mask(0).transpose(1, 2))
    shared = LearnedEncoders.like(encoder, "heads", 3, torch.Generator().manual_seed(1))
    assert shared.size == 64 and shared.mask(2).all() and shared.of_members(x).shape == (3, 5, 64)


def test_bytes_and_numbers_travel_together() -> None:
    pictures = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    for others in (torch.randn(2, 3, 5), torch.zeros(2, 3, 0)):
        first, second = apart(together(pictures, others))
        assert torch.equal(first, pictures) and torch.equal(second, others)


def test_christianos_layers() -> None:
    """Appendix A.2, on 84 x 84 x 4: 26, 11, 9, 7 a side."""
    expected = [(4, 16, 7, 3), (16, 16, 5, 2), (16, 16, 3, 1), (16, 16, 3, 1)], 16 * 49
    assert layout((84, 84, 4), "christiano") == expected
    assert layout((12, 12, 4), "christiano") == ([(4, 16, 3, 1), (16, 16, 3, 2)], 16 * 16)
