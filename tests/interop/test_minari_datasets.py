"""Minari data sets, written by Minari itself and read by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.analysis.datacard import labels
from rlhf_control.config.commands import LabelsConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.recordings import cut
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.minari_datasets import export_to_minari, minari_recording
from rlhf_control.queries.demonstrations import demonstrated, is_data
from rlhf_control.spaces import Spaces, packing

minari: Any = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

PENDULUM = "Pendulum-v1"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def collect(name: str, env: gymnasium.Env, lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Has Minari write episodes of random actions; returns what was seen and done. (Its collector wants JAX.)"""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    seen, buffers = [], []
    env.action_space.seed(0)
    for seed, length in enumerate(lengths):
        obs = [env.reset(seed=seed)[0]]
        actions = [env.action_space.sample() for _ in range(length)]
        steps = [env.step(action) for action in actions]
        obs += [step[0] for step in steps]
        seen.append({"obs": obs, "actions": actions})
        dicts = isinstance(obs[0], dict)
        buffers.append(
            EpisodeBuffer(
                observations={k: np.array([o[k] for o in obs]) for k in obs[0]} if dicts else np.array(obs),
                actions=np.array(actions), rewards=[float(step[1]) for step in steps],
                terminations=[bool(step[2]) for step in steps], truncations=[False] * length,
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=env.observation_space, action_space=env.action_space, jpeg_encoding=False
    )
    env.close()
    return seen


def spaces_of(env_id: str, **options: Any) -> Spaces:
    env = gymnasium.make(env_id, **options)
    spaces = Spaces.of(packing(env.observation_space)[0], env.action_space)
    env.close()
    return spaces


def test_a_data_set_is_a_demonstration() -> None:
    seen = collect("pendulum/noise-v0", gymnasium.make(PENDULUM), (30, 7, 25))
    recording = minari_recording("pendulum/noise-v0", PENDULUM, spaces_of(PENDULUM))
    assert [e.stop - e.start for e in recording.episodes()] == [30, 7, 25]
    np.testing.assert_array_equal(recording.obs, np.concatenate([e["obs"][:-1] for e in seen]))
    np.testing.assert_array_equal(recording.next_obs, np.concatenate([e["obs"][1:] for e in seen]))
    np.testing.assert_array_equal(recording.action, np.concatenate([e["actions"] for e in seen]))
    assert recording.truncated.sum() == 3 and not recording.terminated.any()
    assert len(cut(recording, 10)) == 3 + 0 + 2


def test_discrete_actions_become_one_hot_and_dicts_are_packed() -> None:
    env = gymnasium.make("CartPole-v1")
    seen = collect("cartpole-v0", env, (5, 5))
    recording = minari_recording("cartpole-v0", "CartPole-v1", spaces_of("CartPole-v1"))
    np.testing.assert_array_equal(recording.action.argmax(-1), np.concatenate([e["actions"] for e in seen]))

    space = gymnasium.spaces.Dict({"b": env.observation_space, "a": gymnasium.spaces.Discrete(3)})
    packed, pack = packing(space)
    wrapped = gymnasium.wrappers.TransformObservation(
        gymnasium.make("CartPole-v1"), lambda obs: {"b": obs, "a": int(obs[0] > 0)}, space
    )
    seen = collect("cartpole/dict-v0", wrapped, (6,))
    spaces = Spaces.of(packed, env.action_space)
    recording = minari_recording("cartpole/dict-v0", "CartPole-v1", spaces)
    np.testing.assert_array_equal(recording.obs, [pack(obs) for obs in seen[0]["obs"][:-1]])


def test_what_is_wrong_is_said(place: Path, cheetah_policy: Any) -> None:
    collect("pendulum/noise-v0", gymnasium.make(PENDULUM), (5,))
    assert is_data("minari:pendulum/noise-v0") and not is_data("pendulum/noise-v0")
    spaces = spaces_of(PENDULUM)
    with pytest.raises(UserError, match=r"did you mean pendulum/noise-v0\?.*minari download"):
        minari_recording("pendulum/nois-v0", PENDULUM, spaces)
    with pytest.raises(UserError, match=r"has observations Box\(3,\), actions Box\(1,\), but .* Box\(17,\)"):
        demonstrated("minari:pendulum/noise-v0", cheetah_policy, 3, 0)
    with pytest.raises(UserError, match="has no clip of 6 steps"):
        cut(minari_recording("pendulum/noise-v0", PENDULUM, spaces), 6)
    file = place / "pendulum/noise-v0/data/main_data.hdf5"
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(CorruptFileError, match="cannot be read"):
        minari_recording("pendulum/noise-v0", PENDULUM, spaces)


def test_a_large_data_set_is_drawn_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rlhf_control.interop.minari_datasets.MOST_STEPS", 20)
    collect("pendulum/noise-v0", gymnasium.make(PENDULUM), (9,) * 6)
    recordings = [minari_recording("pendulum/noise-v0", PENDULUM, spaces_of(PENDULUM)) for _ in range(2)]
    assert len(recordings[0]) == 27
    np.testing.assert_array_equal(recordings[0].obs, recordings[1].obs)
    assert "has 6 episodes; 3 drawn" in capsys.readouterr().err


# -- votes


def voted(path: Path, size: int, action: np.ndarray) -> tuple[FeedbackStore, Segments]:
    """A store with two pairs of clips of 4 steps, the first answered."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, 2, 5, size)).astype(np.float32)
    pairs = Segments(obs[..., :-1, :], action, obs[..., 1:, :], rng.normal(size=(2, 2, 4)).astype(np.float32))
    store = FeedbackStore(path, create=True)
    keys = [asked.key for asked in store.ask([Query(0, i, "uniform", pairs[i]) for i in range(2)])]
    store.vote(keys[0], Feedback((0, 1), "me"))
    return store, pairs


def test_votes_are_a_data_set(tmp_path: Path, place: Path) -> None:
    choices = np.eye(2, dtype=np.float32)[np.random.default_rng(1).integers(2, size=(2, 2, 4))]
    store, pairs = voted(tmp_path / "labels.sqlite", 4, choices)
    export_to_minari(store, "mine/votes-v0", spaces_of("CartPole-v1"))
    dataset = minari.load_dataset("mine/votes-v0")
    assert dataset.action_space == gymnasium.spaces.Discrete(2) and dataset.observation_space.shape == (4,)
    digests = [meta["digest"] for meta in dataset.storage.get_episode_metadata(range(4))]
    episodes = dict(zip(digests, dataset.iterate_episodes(), strict=True))
    for i in range(2):
        for k in range(2):
            clip = pairs[i][k]
            episode = episodes[clip.digest()]
            np.testing.assert_array_equal(episode.observations, np.concatenate([clip.obs, clip.next_obs[-1:]]))
            np.testing.assert_array_equal(episode.actions, clip.action.argmax(-1))
            np.testing.assert_array_equal(episode.rewards.astype(np.float32), clip.env_reward)
            assert episode.truncations.tolist() == [False] * 3 + [True]
    queries = [json.loads(line) for line in (place / "mine/votes-v0/data/queries.jsonl").read_text().splitlines()]
    (answer,) = [json.loads(line) for line in (place / "mine/votes-v0/data/answers.jsonl").read_text().splitlines()]
    assert [query["clips"] for query in queries] == [[pairs[i][k].digest() for k in range(2)] for i in range(2)]
    assert answer["query"] == queries[0]["key"] and answer["ranks"] == [0, 1]
    with pytest.raises(UserError, match="exists"):
        export_to_minari(store, "mine/votes-v0", None)
    with pytest.raises(UserError, match="votes-v0"):
        export_to_minari(store, "votes", None)


def test_votes_of_a_store_alone_by_the_command(tmp_path: Path) -> None:
    store, pairs = voted(tmp_path / "labels.sqlite", 3, np.zeros((2, 2, 4, 1), np.float32))
    del store
    labels(LabelsConfig(str(tmp_path), export="minari:flat-v0"))
    dataset = minari.load_dataset("flat-v0")
    assert dataset.total_episodes == 4 and dataset.total_steps == 16
    shown = {clip.observations.tobytes() for clip in dataset.iterate_episodes()}
    assert np.concatenate([pairs[0][0].obs, pairs[0][0].next_obs[-1:]]).tobytes() in shown


def test_dicts_and_pictures_stay_what_they_are(tmp_path: Path) -> None:
    space = gymnasium.spaces.Dict({
        "arm": gymnasium.spaces.Box(-1, 1, (2,)), "eye": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    })  # fmt: skip
    packed, pack = packing(space)
    spaces = Spaces.of(packed, gymnasium.spaces.Box(-1, 1, (2, 1)))
    space.seed(0)
    raw = [space.sample() for _ in range(5)]
    obs = np.stack([pack(o) for o in raw])
    clip = Segments(obs[:-1], np.ones((4, 2), np.float32), obs[1:], np.full(4, np.nan, np.float32))
    other = replace(clip, action=np.zeros((4, 2), np.float32))
    store = FeedbackStore(tmp_path / "labels.sqlite", create=True)
    store.ask([Query(0, 0, "uniform", Segments.stack([clip, other]))])
    export_to_minari(store, "pictures-v0", spaces)
    episode = next(iter(minari.load_dataset("pictures-v0").iterate_episodes([0])))
    np.testing.assert_array_equal(episode.observations["eye"], [o["eye"] for o in raw])
    np.testing.assert_array_equal(episode.observations["arm"], [o["arm"] for o in raw])
    assert episode.actions.shape == (4, 2, 1)
