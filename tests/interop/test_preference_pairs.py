"""Comparisons of B-Pref and imitation. The pickles are made by stand-ins of imitation's classes, under its names."""

import io
import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.export import import_pairs
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.preference_pairs import load_pairs
from rlhf_control.spaces import Spaces

BOX = Spaces.of(gymnasium.spaces.Box(-9, 9, (3,)), gymnasium.spaces.Box(-1, 1, (2,)))
RNG = np.random.default_rng(0)
SEGMENTS = RNG.uniform(-1, 1, (2, 4, 6, 5)).astype(np.float32)
LABELS = np.array([[0], [1], [-1], [0]], np.float32)


def ranks_of(path: Path, arrays: Any) -> list[Any]:
    """Imports into a fresh store; the ranks in force, by pair."""
    store = FeedbackStore(path, create=True)
    keys = import_pairs(store, arrays)
    given = {vote.query: vote.feedback.ranks for vote in store.votes() if vote.feedback}
    return [given[key] for key in keys]


@pytest.mark.parametrize("kind", ["npz", "torch"])
def test_bpref(tmp_path: Path, kind: str) -> None:
    arrays = {"buffer_seg1": SEGMENTS[0], "buffer_seg2": SEGMENTS[1], "buffer_label": LABELS}
    path = tmp_path / "pairs"
    if kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays, buffer_index=np.array(3), buffer_full=np.array(False))  # type: ignore[arg-type]
    else:
        torch.save(
            {k: torch.from_numpy(v) for k, v in arrays.items()} | {"buffer_index": 3, "buffer_full": False}, path
        )
    pairs = load_pairs(path, BOX)
    np.testing.assert_array_equal(pairs["obs_2"], SEGMENTS[1, :3, :, :3])
    np.testing.assert_array_equal(pairs["action_1"], SEGMENTS[0, :3, :, 3:])
    assert ranks_of(tmp_path / "a.sqlite", pairs) == [(0, 1), (1, 0), (0, 0)]


def test_bpref_needs_the_run_and_its_spaces(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, buffer_seg1=SEGMENTS[0], buffer_seg2=SEGMENTS[1], buffer_label=LABELS)
    with pytest.raises(UserError, match="load it into a run's folder"):
        load_pairs(path, None)
    other = Spaces.of(gymnasium.spaces.Box(-9, 9, (4,)), gymnasium.spaces.Box(-1, 1, (2,)))
    with pytest.raises(UserError, match=r"\(4, 6, 5\).*observations of 4 and actions of 2"):
        load_pairs(path, other)
    np.savez(path, buffer_seg1=SEGMENTS[0], buffer_seg2=SEGMENTS[1], buffer_label=LABELS + 5)
    with pytest.raises(UserError, match="a label 4; B-Pref's are"):
        load_pairs(path, BOX)
    np.savez(path, buffer_seg1=SEGMENTS[0])
    with pytest.raises(UserError, match="lacks buffer_seg2, buffer_label"):
        load_pairs(path, BOX)


# -- imitation


@dataclass(frozen=True)
class TrajectoryWithRew:
    obs: Any
    acts: Any
    infos: Any
    terminal: bool
    rews: Any


class PreferenceDataset:
    def __init__(self) -> None:
        self.fragments1: list[Any] = []
        self.fragments2: list[Any] = []
        self.max_size = None
        self.preferences = np.array([])


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its two classes under their names, as far as pickling needs them."""
    for cls, module in ((TrajectoryWithRew, "imitation.data.types"),
                        (PreferenceDataset, "imitation.algorithms.preference_comparisons")):  # fmt: skip
        for parent in (module.split(".")[0], module.rpartition(".")[0]):
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        made = types.ModuleType(module)
        setattr(made, cls.__name__, cls)
        monkeypatch.setitem(sys.modules, module, made)
        monkeypatch.setattr(cls, "__module__", module)
    yield


def dataset(acts: np.ndarray) -> PreferenceDataset:
    made, n = PreferenceDataset(), len(acts[0])
    obs = RNG.normal(size=(2, n, 7, 3)).astype(np.float32)
    for side, fragments in enumerate((made.fragments1, made.fragments2)):
        infos = np.array([{"t": np.float64(i)} for i in range(6)])
        fragments += [TrajectoryWithRew(obs[side, i], acts[side, i], infos, False, np.arange(6.0)) for i in range(n)]
    made.preferences = np.array([1.0, 0.0, 0.5])[:n]
    return made


@pytest.mark.usefixtures("imitation")
def test_imitation(tmp_path: Path) -> None:
    made = dataset(RNG.uniform(-2, 2, (2, 3, 6, 2)).astype(np.float32))
    path = tmp_path / "preferences.pkl"
    path.write_bytes(pickle.dumps(made))
    pairs = load_pairs(path, BOX)
    np.testing.assert_array_equal(pairs["obs_1"], [f.obs for f in made.fragments1])
    np.testing.assert_array_equal(pairs["action_2"], np.clip([f.acts for f in made.fragments2], -1, 1))
    np.testing.assert_array_equal(pairs["reward_1"], np.tile(np.arange(6.0), (3, 1)))
    assert ranks_of(tmp_path / "a.sqlite", pairs) == [(0, 1), (1, 0), (0, 0)]
    np.testing.assert_array_equal(load_pairs(path, None)["action_2"], [f.acts for f in made.fragments2])


@pytest.mark.usefixtures("imitation")
def test_choices_of_imitation_become_one_hot(tmp_path: Path) -> None:
    path, acts = tmp_path / "p.pkl", RNG.integers(4, size=(2, 3, 6))
    path.write_bytes(pickle.dumps(dataset(acts)))
    discrete = Spaces.of(gymnasium.spaces.Box(-9, 9, (3,)), gymnasium.spaces.Discrete(4))
    np.testing.assert_array_equal(load_pairs(path, discrete)["action_1"].argmax(-1), acts[0])
    with pytest.raises(UserError, match="load it into a run's folder"):
        load_pairs(path, None)


@pytest.mark.usefixtures("imitation")
def test_other_pickles_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.pkl"
    for thing, said in ((io.StringIO, "_io.StringIO"), ([1, 2], "list"), (np.arange(3), "PickledArray|ndarray|array")):
        path.write_bytes(pickle.dumps(thing))
        with pytest.raises(CorruptFileError, match=f"only what imitation's PreferenceDataset.save wrote.*({said})"):
            load_pairs(path, BOX)
    path.write_bytes(pickle.dumps(dataset(np.zeros((2, 3, 6, 2))))[:-40])
    with pytest.raises(CorruptFileError, match="is a pickle"):
        load_pairs(path, BOX)


def test_our_own_arrays_go_through(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", obs_1=np.zeros(3), label=np.zeros(1))
    assert set(load_pairs(tmp_path / "p.npz", None)) == {"obs_1", "label"}
    with pytest.raises(UserError, match="cannot read"):
        load_pairs(tmp_path / "nothing.npz", None)
