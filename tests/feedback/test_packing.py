import io
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.config import NetConfig
from rlhf_control.data import Query, Segments
from rlhf_control.feedback.packing import pack, unpack
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut_segments
from rlhf_control.simulation.pictures import encode_all
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from tests.conftest import random_segments


def npz(clip: Segments) -> bytes:
    """As clips were stored before."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **clip.arrays())
    return buffer.getvalue()


def same(a: Segments, b: Segments) -> bool:
    return a.arrays().keys() == b.arrays().keys() and all(
        x.dtype == b.arrays()[n].dtype and x.shape == b.arrays()[n].shape and x.tobytes() == b.arrays()[n].tobytes()
        for n, x in a.arrays().items()
    )


@pytest.mark.parametrize(
    ("env_id", "share"),
    [("HalfCheetah-v5", 0.6), ("Hopper-v5", 0.6), ("Ant-v5", 0.6), ("CartPole-v1", 0.6), ("Pendulum-v1", 0.9)],
)
def test_clips_of_real_environments_come_back_bit_for_bit(env_id: str, share: float) -> None:
    envs = start_envs(env_id, 2, seed=0)
    policy = Policy(envs.spaces, NetConfig((8,)), 0, env_id, {})
    clips = cut_segments(collect(envs, policy, 100, np.random.default_rng(0)), 8, np.random.default_rng(0))
    for i in range(len(clips)):
        packed = pack(clips[i])
        assert same(unpack(packed), clips[i])
        assert len(packed) < share * len(npz(clips[i]))


@given(st.data())
def test_any_clip_comes_back_bit_for_bit(data: st.DataObject) -> None:
    """Whatever of it is redundant or not, with numbers of every kind, of one step and of none."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    L = data.draw(st.integers(0, 5))
    odd = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, 1e300, 1e-300, 1.5, 1 + 1e-12])
    state = rng.choice(odd, (L, 4))
    with np.errstate(over="ignore"):
        obs = state.astype(np.float32)[:, rng.permutation(4)[: data.draw(st.integers(1, 4))]]
    if data.draw(st.booleans()) and L:
        obs[rng.integers(L), 0] = 7
    next_obs = np.concatenate([obs[1:], obs[:1]])
    if data.draw(st.booleans()) and L > 1:
        next_obs[0, 0] = -next_obs[0, 0]
    clip = Segments(obs, rng.choice(odd[:4], (L, 2)).astype(np.float32), next_obs, np.full(L, np.nan, np.float32))
    if data.draw(st.booleans()):
        clip = Segments(*clip.arrays().values(), state)
    assert same(unpack(pack(clip)), clip) and unpack(pack(clip)).digest() == clip.digest()


def test_pictures_are_packed_as_narrow_as_they_are() -> None:
    clip = random_segments(np.random.default_rng(0), 3)
    frames = encode_all(list(np.zeros((3, 8, 8, 3), np.uint8)))
    wide = Segments(clip.obs, clip.action, clip.next_obs, clip.env_reward, frames=frames.astype("S5000"))
    again = unpack(pack(wide))
    assert again.frames is not None and again.frames.dtype == frames.dtype
    np.testing.assert_array_equal(again.frames, frames)
    assert again.digest() == wide.digest() and pack(again) == pack(wide)


def test_clips_of_before_are_read() -> None:
    clip = random_segments(np.random.default_rng(0), 7)
    assert same(unpack(npz(clip)), clip)
    bare = Segments(clip.obs, clip.action, clip.next_obs, clip.env_reward)
    assert same(unpack(npz(bare)), bare)


def test_a_store_of_before_is_read_and_added_to(tmp_path: Path) -> None:
    old, new = (Query(0, i, "uniform", random_segments(np.random.default_rng(i), 2, 5)) for i in range(2))
    store = FeedbackStore(tmp_path / "labels.sqlite")
    (asked,) = store.ask([old])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        for side, digest in enumerate(asked.clips):
            db.execute("UPDATE segments SET arrays = ? WHERE digest = ?", (npz(old.segments[side]), digest))
    store.ask([old, new])
    for query, key in zip((old, new), store.asked(), strict=True):
        assert FeedbackStore(store.path).query(key.key).segments.digest() == query.segments.digest()


def test_odd_shapes_are_stored_as_they_are() -> None:
    """Somebody's own store may hold anything."""
    rng = np.random.default_rng(0)
    for clip in (random_segments(rng, 2, 3), Segments(*(np.zeros((3, 0), np.float64) for _ in range(4)))):
        assert same(unpack(pack(clip)), clip)


def test_no_bit_may_differ() -> None:
    clip = random_segments(np.random.default_rng(0), 3)
    packed = bytearray(pack(clip))
    for place in range(0, len(packed), 7):
        damaged = packed.copy()
        damaged[place] ^= 1
        try:
            found = unpack(bytes(damaged))
        except Exception:
            continue
        assert found.digest() != clip.digest() or same(found, clip)
