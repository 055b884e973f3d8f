"""Fixtures of several files."""

import numpy as np
import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.data import Segments
from rlhf_control.reward.model import RewardModel, comparisons
from tests.conftest import random_segments
from tests.reward.given_answers import answered


@pytest.fixture(scope="module")
def fitted() -> tuple[RewardModel, dict[str, float], Segments]:
    model = RewardModel(17, 6, RewardConfig())
    reference = random_segments(np.random.default_rng(5), 60, 30)
    torch.set_num_threads(1)
    metrics = model.fit(comparisons(*answered(100, 0)), reference, np.random.default_rng(0))
    return model, metrics, reference
