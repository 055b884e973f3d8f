"""LeRobot's layout, version 3.0: what its documents name is there, and says what the store holds."""

import io
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from rlhf_control.analysis.datacard import labels
from rlhf_control.config import FinetuneConfig
from rlhf_control.config.commands import LabelsConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.lerobot_datasets import export_to_lerobot
from rlhf_control.runs.run import Run
from rlhf_control.spaces import Spaces, packing

pq: Any = pytest.importorskip("pyarrow.parquet")


def voted(path: Path, obs: np.ndarray, actions: int) -> tuple[FeedbackStore, Segments]:
    """A store with a pair of clips, of observations (2, L + 1, O), that was answered."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (2, obs.shape[1] - 1, actions)).astype(np.float32)
    pair = Segments(obs[:, :-1], action, obs[:, 1:], rng.normal(size=action.shape[:2]).astype(np.float32))
    store = FeedbackStore(path, create=True)
    (asked,) = store.ask([Query(0, 0, "uniform", pair)])
    store.vote(asked.key, Feedback((0, 1), "me"))
    return store, pair


def test_rows_and_tables(tmp_path: Path) -> None:
    obs = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
    store, pair = voted(tmp_path / "labels.sqlite", obs, 1)
    export_to_lerobot(store, tmp_path / "out", None, "Which is better?", 20)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 20, 2, 10)
    file = tmp_path / "out" / info["data_path"].format(chunk_index=0, file_index=0)
    rows = pq.read_table(file).to_pydict()
    assert set(rows) == set(info["features"])
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": None}
    np.testing.assert_array_equal(rows["observation.state"], pair.obs.reshape(10, 3))
    np.testing.assert_array_equal(rows["next.observation.state"], pair.next_obs.reshape(10, 3))
    np.testing.assert_array_equal(rows["action"], pair.action.ravel())  # one number: a plain column
    np.testing.assert_array_equal(rows["next.reward"], pair.env_reward.ravel())
    assert rows["frame_index"] == [0, 1, 2, 3, 4] * 2 and rows["episode_index"] == [0] * 5 + [1] * 5
    assert rows["index"] == list(range(10)) and rows["next.done"] == ([False] * 4 + [True]) * 2
    np.testing.assert_allclose(rows["timestamp"][:5], np.arange(5) / 20, rtol=1e-6)
    episodes = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["digest"] == [pair[0].digest(), pair[1].digest()]
    assert (episodes["dataset_from_index"], episodes["dataset_to_index"]) == ([0, 5], [5, 10])
    assert episodes["tasks"] == [["Which is better?"]] * 2
    np.testing.assert_allclose(episodes["stats/action/max"][1], pair.action[1].max(0))
    tasks = pq.read_table(tmp_path / "out/meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0], "__index_level_0__": ["Which is better?"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    np.testing.assert_allclose(stats["observation.state"]["mean"], pair.obs.mean((0, 1)), atol=1e-6)
    (answer,) = [json.loads(line) for line in (tmp_path / "out/meta/answers.jsonl").read_text().splitlines()]
    (query,) = [json.loads(line) for line in (tmp_path / "out/meta/queries.jsonl").read_text().splitlines()]
    assert query["clips"] == episodes["digest"] and answer["query"] == query["key"] and answer["ranks"] == [0, 1]
    with pytest.raises(UserError, match="exists"):
        export_to_lerobot(store, tmp_path / "out", None, "", 20)


def test_pictures_are_png(tmp_path: Path) -> None:
    space = gymnasium.spaces.Dict({
        "arm": gymnasium.spaces.Box(-1, 1, (2,)), "eye": gymnasium.spaces.Box(0, 255, (9, 8, 3), np.uint8)
    })  # fmt: skip
    packed, pack = packing(space)
    space.seed(0)
    raw = [space.sample() for _ in range(6)]
    obs = np.stack([pack(o) for o in raw]).reshape(2, 3, -1)
    store, _ = voted(tmp_path / "labels.sqlite", obs, 2)
    export_to_lerobot(store, tmp_path / "out", Spaces.of(packed, gymnasium.spaces.Box(-1, 1, (2,))), "?", 10)
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").to_pydict()
    with Image.open(io.BytesIO(rows["observation.images.eye"][2]["bytes"])) as picture:
        np.testing.assert_array_equal(np.asarray(picture), raw[3]["eye"])
    np.testing.assert_array_equal(rows["next.observation.arm"][3], raw[5]["arm"])
    features = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert features["next.observation.images.eye"]["shape"] == [9, 8, 3]


def test_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voted(tmp_path / "labels.sqlite", np.zeros((2, 6, 3), np.float32), 1)
    labels(LabelsConfig(str(tmp_path), export=f"lerobot:{tmp_path / 'out'}"))
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["fps"] == 30
    config = FinetuneConfig("p", question="Which is calmer?", clip_seconds=0.25)
    run = Run.create(tmp_path / "run", "finetune", config)
    (tmp_path / "labels.sqlite").rename(run.path / "labels.sqlite")
    labels(LabelsConfig(str(run.path), export=f"lerobot:{tmp_path / 'of_a_run'}"))
    assert json.loads((tmp_path / "of_a_run/meta/info.json").read_text())["fps"] == 20  # five steps in 0.25 s
    assert pq.read_table(tmp_path / "of_a_run/meta/tasks.parquet")[1].to_pylist() == ["Which is calmer?"]
    assert "exported 1 queries and 1 votes" in capsys.readouterr().err
