"""Learned rewards and their configs."""

import numpy as np

from rlhf_control.analysis.reward_evaluation import random_pairs
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig, RewardConfig
from rlhf_control.data import Segments
from rlhf_control.reward.model import RewardModel, comparisons

SMALL = RewardConfig(members=3, hidden=(32,), bootstrap=0.7, steps=100)
CONFIG = FinetuneConfig("halfcheetah", labels=40, first_labels=20, rounds=2, reward=SMALL)


def learned(clips: Segments) -> RewardModel:
    """Fitted to the true order of 200 pairs of these clips."""
    pairs = random_pairs(len(clips), 200, np.random.default_rng(0))
    means = BEHAVIOURS["backward"].reward(clips).mean(-1)[pairs]
    model = RewardModel(17, 6, SMALL)
    model.fit(
        comparisons(clips[pairs], (means[:, 0] > means[:, 1]).astype(np.float32)), clips, np.random.default_rng(0)
    )
    return model
