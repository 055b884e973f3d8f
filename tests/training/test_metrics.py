"""What the rows of metrics say, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.config import (
    FinetuneConfig,
    QueryConfig,
)
from rlhf_control.data import COMPARISON, CORRECTION, Query, Segments
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.training import metrics as training_metrics
from rlhf_control.training.metrics import episode_metrics, query_metrics
from tests.conftest import random_rollout, random_segments


def test_fresh_accuracy_is_of_the_uniform_answers_alone(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    accuracy = training_metrics.accuracy

    def spy(model: training_metrics.Reward, pairs: Segments, target: np.ndarray) -> float:
        asked.append(len(target))
        return accuracy(model, pairs, target)

    monkeypatch.setattr(training_metrics, "accuracy", spy)
    run = train.finetune(replace(tiny_config, labels=26, first_labels=6))
    store = FeedbackStore(run.path / "labels.sqlite")
    queries = [store.query(asked.key) for asked in store.asked()]
    assert asked == [sum(q.strategy == "uniform" and q.round == k for q in queries) for k in (1, 2)] == [4, 4]


def test_accuracy_counts_clear_answers_alone() -> None:
    class Sure:
        def probability(self, pairs: Segments) -> np.ndarray:
            return np.array([[0.9, 0.9, 0.1, 0.1], [0.9, 0.2, 0.1, 0.1]])  # means: 0.9, 0.55, 0.1, 0.1

    model: Any = Sure()
    pairs = random_segments(np.random.default_rng(0), 4, 2, 5)
    assert training_metrics.accuracy(model, pairs, np.array([1, 0.5, 0, 1], np.float32)) == pytest.approx(2 / 3)
    assert training_metrics.accuracy(model, pairs, np.full(4, 0.5, np.float32)) == 0.5


def test_only_episodes_that_ended_are_measured() -> None:
    rollout = random_rollout(np.random.default_rng(0), ends=0.0)
    ended = replace(rollout, episode_returns=(1.0, 3.0), episode_lengths=(10, 30))
    assert episode_metrics(ended) == {"env_return": 2.0, "episode_length": 20.0}
    none = replace(rollout, episode_returns=(), episode_lengths=())
    assert episode_metrics(none) == {"env_return": None, "episode_length": None}


def test_corrections_cost_steps_of_their_own(tiny_config: FinetuneConfig) -> None:
    clips = random_segments(np.random.default_rng(0), 3, 2, 5)
    queries = [Query(0, i, "x", clips[i], kind) for i, kind in enumerate((CORRECTION, COMPARISON, CORRECTION))]
    config = replace(tiny_config, query=QueryConfig(attempts=4))
    assert query_metrics(config, queries) == {"correction_steps": 2 * 4 * 5}
    assert query_metrics(config, queries[1:2]) == {}
