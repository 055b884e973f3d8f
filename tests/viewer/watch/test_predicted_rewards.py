import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config import FinetuneConfig, RewardConfig
from rlhf_control.data import Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.run import Run
from rlhf_control.viewer.watch.predicted_rewards import (
    FILE,
    Predictor,
    load_predicted,
    newest_checkpoint,
    predict_all,
    predicted_rewards,
    version_of,
)
from tests.conftest import random_segments
from tests.synthetic_runs import finetuning

SMALL = RewardConfig(members=2, hidden=(8,), steps=5)
CONFIG = FinetuneConfig("halfcheetah", labels=4, first_labels=4, rounds=1, reward=SMALL)


def fitted(seed: int) -> RewardModel:
    rng = np.random.default_rng(seed)
    pairs = random_segments(rng, 4, 2, 5)
    model = RewardModel(17, 6, SMALL)
    model.fit(comparisons(pairs, np.array([0, 1, 0, 1], np.float32)), pairs[:, 0], rng)
    return model


@pytest.fixture
def queries() -> list[Query]:
    rng = np.random.default_rng(0)
    clips: list[Segments] = [random_segments(rng, 2, 5) for _ in range(3)]
    return [Query(0, i, "uniform", pair) for i, pair in enumerate(clips)]


@pytest.fixture
def run(tmp_path: Path, queries: list[Query]) -> Path:
    """A run's folder with a checkpoint, a fitted reward and a store of three queries."""
    path = finetuning(tmp_path / "run", CONFIG)
    Run(path).save_checkpoint(12, {"reward": fitted(0).state()})
    FeedbackStore(path / "labels.sqlite").ask(queries)
    return path


def test_predictions_are_the_models_own(run: Path, queries: list[Query]) -> None:
    keys = [query_key(query) for query in queries]
    assert load_predicted(run) is None and newest_checkpoint(run) == 12
    found = predicted_rewards(run, keys[:2])
    assert len(found) == 4  # of the two queries asked for
    for side in range(2):
        clip = queries[1].segments[side]
        np.testing.assert_allclose(found[clip.digest()], fitted(0).predict(clip), rtol=1e-4, atol=1e-5)
    known = load_predicted(run)
    assert known is not None and len(known.rewards) == 6  # of all


def test_what_is_known_is_not_computed_again(run: Path, queries: list[Query], monkeypatch: pytest.MonkeyPatch) -> None:
    key, digest = query_key(queries[0]), queries[0].segments[0].digest()
    predict_all(run)
    monkeypatch.setattr(Predictor, "start", lambda self: pytest.fail("nothing is missing"))
    first = predicted_rewards(run, [key])[digest]
    with monkeypatch.context() as patched:
        patched.setattr(RewardModel, "predict", lambda *_: pytest.fail("the model is the same"))
        Run(run).save_checkpoint(13, {"reward": fitted(0).state()})
        predict_all(run)
        assert np.array_equal(predicted_rewards(run, [key])[digest], first)
    Run(run).save_checkpoint(14, {"reward": fitted(1).state()})  # another model
    predict_all(run)
    assert not np.array_equal(predicted_rewards(run, [key])[digest], first)
    (run / FILE).write_bytes(b"damaged")
    assert load_predicted(run) is None
    predict_all(run)
    assert len(predicted_rewards(run, [key])) == 2


def test_a_window_need_not_wait(run: Path, queries: list[Query]) -> None:
    digest = queries[2].segments[1].digest()
    with Predictor(run) as predictor:
        assert predictor.get(digest) is None and not predictor.busy and not predictor.poll()
        predictor.start()
        predictor.start()  # one child is enough
        assert predictor.busy
        predict_all(run)  # quicker than the child
        predictor.close()
        assert not predictor.busy
    with Predictor(run) as predictor:
        reward = predictor.get(digest)
        assert reward is not None and reward.shape == (5,)


def test_what_is_in_the_way_is_said(tmp_path: Path, run: Path, queries: list[Query]) -> None:
    Run(run).save_checkpoint(14, {"reward": RewardModel(17, 6, SMALL).state()})
    message = r"^the reward of .* has not been fitted yet; let the run go on$"
    with pytest.raises(UserError, match=message):
        predict_all(run)
    with pytest.raises(UserError, match=message):  # by way of the child process
        predicted_rewards(run, [query_key(queries[0])])
    Run(run).save_checkpoint(15, {"reward": RewardModel(3, 1, SMALL).state()})
    with pytest.raises(UserError, match="of another version"):
        predict_all(run)
    Run(run).save_checkpoint(16, {"learner": {}})
    with pytest.raises(UserError, match="no learned reward yet"):
        predict_all(run)
    other = finetuning(tmp_path / "other")
    with pytest.raises(UserError, match=r"labels.sqlite does not exist"):
        predicted_rewards(other, [])


def test_versions_differ_where_a_number_does() -> None:
    state = fitted(0).state()
    again = fitted(0).state()
    assert version_of(state) == version_of(again)
    again["layers"]["0.weight"][0, 0, 0] += 1
    assert version_of(state) != version_of(again)
    assert version_of({"a": {"b": 1}}) != version_of({"a": {"c": 1}})


def test_asking_imports_no_torch(run: Path, queries: list[Query]) -> None:
    predict_all(run)
    code = (
        "import sys; from rlhf_control.viewer.watch.predicted_rewards import predicted_rewards; "
        f"assert len(predicted_rewards({str(run)!r}, [{query_key(queries[0])!r}])) == 2; "
        "assert 'torch' not in sys.modules and 'pygame' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
