import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import CorruptFileError
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.reward.unseen import novelty_of, usual_distance
from rlhf_control.runs.files import load_state, save_state
from tests.conftest import random_segments

PARTS = RewardConfig(steps=30, members=2, bootstrap=0.5, obs_parts=("0:3", "8"))


def fitted(config: RewardConfig = PARTS) -> RewardModel:
    model = RewardModel(17, 6, config)
    rng = np.random.default_rng(0)
    pairs, reference = random_segments(rng, 20, 2, 5), random_segments(rng, 40, 5)
    model.fit(comparisons(pairs, (np.arange(20) % 2).astype(np.float64)), reference, rng)
    return model


def moved(steps: Segments, column: int, by: float) -> Segments:
    obs = steps.obs.copy()
    obs[..., column] += by
    return Segments(obs, steps.action, steps.next_obs, steps.env_reward)


def test_novelty_by_hand() -> None:
    support = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    rows = torch.tensor([[[0.0, 1.0], [3.0, 4.0]], [[0.0, -2.0], [3.0, 14.0]]])
    np.testing.assert_allclose(novelty_of(rows, support, 2.0), [[0, 0], [0, math.log(5)]], rtol=1e-6)
    assert usual_distance(torch.tensor([[0.0, 1.0]] * 96 + [[0.0, -9.0]] * 4), support) == 1.0


def test_what_is_not_seen_is_told_from_what_is() -> None:
    """A reward that sees the numbers 0 to 2 and 8 says the same of other ones elsewhere, and that it does not know."""
    model, new = fitted(), random_segments(np.random.default_rng(1), 30, 5)
    assert model.unseen is not None and model.unseen.columns.tolist() == [3, 4, 5, 6, 7, *range(9, 17)]
    far = moved(new, 12, 50.0)
    np.testing.assert_array_equal(model.predict(far), model.predict(new))
    assert (model.novelty(new) == 0).mean() > 0.8 and model.novelty(far).min() > 1
    assert model.uncertainty(far).mean() > model.uncertainty(new).mean() + 1
    assert model.novelty(far).shape == (30, 5) and model.novelty(far[0]).shape == (5,)
    assert model.novelty(moved(new, 8, 50.0)).min() > 1  # seen


def test_a_reward_that_sees_all_has_nothing_of_it() -> None:
    model = fitted(RewardConfig(steps=30, members=2, bootstrap=0.5))
    assert model.unseen is None and "unseen" not in model.state()


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    model, new = fitted(), moved(random_segments(np.random.default_rng(1), 3, 5), 12, 50.0)
    model.save(tmp_path / "r.npz")
    again = RewardModel.load(tmp_path / "r.npz")
    np.testing.assert_array_equal(again.uncertainty(new), model.uncertainty(new))

    state = load_state(tmp_path / "r.npz")
    older = {name: value for name, value in state.items() if name != "unseen"}
    save_state(tmp_path / "older.npz", older)
    assert RewardModel.load(tmp_path / "older.npz").novelty(new).max() < model.novelty(new).min()

    for name, value, why in [
        ("mean", np.full(13, np.nan), "not finite"),
        ("std", np.zeros(13), "not positive"),
        ("usual", -1.0, "not positive"),
        ("support", np.zeros((0, 13)), "not of the 13 numbers"),
        ("mean", np.zeros((3, 13)), "not of the 13 numbers"),
    ]:
        broken = {**state, "unseen": {**state["unseen"], name: np.float32(value) if name != "usual" else value}}
        save_state(tmp_path / "broken.npz", broken)
        with pytest.raises(CorruptFileError, match=why):
            RewardModel.load(tmp_path / "broken.npz")
