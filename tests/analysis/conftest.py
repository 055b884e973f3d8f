"""Fixtures of several files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.analysis.reward_evaluation import random_pairs
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.feedback.schema import query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut
from rlhf_control.reward.protocol import Reward
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from tests.analysis.rewards import CONFIG
from tests.synthetic_runs import finetuning


@pytest.fixture
def run_of(tmp_path: Path, cheetah_policy: Policy, clips: Segments) -> Any:
    """Makes a run's folder around a reward: untrained policies, two rounds of answered queries, metrics."""

    def make(reward: Reward, config: FinetuneConfig = CONFIG) -> Path:
        path = tmp_path / "run"
        finetuning(path, config)
        cheetah_policy.save(path / "policy.npz")
        cheetah_policy.save(path / "pretrained.npz")
        store = FeedbackStore(path / "labels.sqlite")
        rng = np.random.default_rng(0)
        asked = [random_pairs(30, 8, rng) + 30 * round for round in range(2)]
        kept = np.concatenate([asked[0][0], np.setdiff1d(np.arange(60), asked)[:3]])
        state = {"reward": reward.state(), "learner": {}, "bank": {"older": clips[kept].arrays()}}
        Run(path).save_checkpoint(12, state)
        for round, pairs in enumerate(asked):
            queries = [Query(round, i, "uniform", clips[pair]) for i, pair in enumerate(pairs)]
            store.ask(queries)
            for query in queries:
                store.vote(query_key(query), Feedback((0, 1), "me"))
        return path

    return make


@pytest.fixture(scope="module")
def clips() -> Segments:
    """(60, 30, ...) of the shipped policy with its noise and of no policy worth the name."""
    from rlhf_control.interop.policies import find_policy

    good = find_policy("halfcheetah")
    bad = Policy.from_state(good.state())
    bad.loosen(0.0, 0.0)
    whole = [evaluate(policy, 1, seed=1, deterministic=False)[1][0] for policy in (good, bad)]
    return cut(whole, 30)
