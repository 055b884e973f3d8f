from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.recordings import Recording, cut, join, load_recording, save_recording
from rlhf_control.runs.files import load_state, save_state


def recording(lengths: tuple[int, ...] = (7, 4), frames: bool = False) -> Recording:
    """Episodes whose observations count the steps."""
    steps = sum(lengths)
    obs = np.arange(steps, dtype=np.float32)[:, None] * [1, 10, 100]
    ends = np.zeros(steps, bool)
    ends[np.cumsum(lengths) - 1] = True
    return Recording(
        "HalfCheetah-v5", {"frame_skip": 5}, obs.astype(np.float32), np.ones((steps, 2), np.float32),
        (obs + 1).astype(np.float32), np.arange(steps, dtype=np.float32), np.zeros(steps, bool), ends,
        state=None if frames else np.arange(steps, dtype=float)[:, None],
        frames=np.array([b"png", b""] * steps)[:steps] if frames else None,
    )  # fmt: skip


@pytest.mark.parametrize("frames", [False, True])
def test_what_is_saved_is_loaded(tmp_path: Path, frames: bool) -> None:
    saved = recording(frames=frames)
    save_recording(tmp_path / "play.npz", saved)
    loaded = load_recording(tmp_path / "play.npz", "HalfCheetah-v5", (3, 2))
    assert (loaded.env_id, loaded.env, len(loaded)) == ("HalfCheetah-v5", {"frame_skip": 5}, 11)
    for name in ("obs", "action", "next_obs", "env_reward", "terminated", "truncated", "state", "frames"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    with np.load(tmp_path / "play.npz", allow_pickle=False) as archive:  # an ordinary file of NumPy's
        assert archive["obs"].shape == (11, 3)


def test_clips_never_cross_an_end() -> None:
    clips = cut(recording((7, 4, 3)), 3)
    assert clips.obs[..., 0].tolist() == [[0, 1, 2], [3, 4, 5], [7, 8, 9], [11, 12, 13]]
    assert clips.state is not None and clips.state.shape == (4, 3, 1)
    assert clips.env_reward[1].tolist() == [3, 4, 5]
    with pytest.raises(UserError, match=r"no clip of 8 steps .its longest episode has 7.; shorten --clip-seconds"):
        cut(recording(), 8)


def test_joined_recordings_keep_their_episodes() -> None:
    both = join([recording((2, 3)), recording((4,))])
    assert both.episodes() == [slice(0, 2), slice(2, 5), slice(5, 9)]
    assert both.frames is None and both.state is not None


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "play.npz"
    with pytest.raises(UserError, match="does not exist"):
        load_recording(path)
    save_recording(path, recording())
    with pytest.raises(
        UserError, match=r"recorded in HalfCheetah-v5, not in Ant-v5; record one with .rlhf-control pla"
    ):
        load_recording(path, "Ant-v5")
    with pytest.raises(UserError, match=r"observations of 3 and actions of 2 numbers .* 17 and 6; record it again"):
        load_recording(path, sizes=(17, 6))
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="damaged"):
        load_recording(path)
    save_state(path, {"kind": "policy"})
    with pytest.raises(CorruptFileError, match="not a recording; give a file"):
        load_recording(path)


def test_what_is_no_whole_recording_is_refused(tmp_path: Path) -> None:
    path, good = tmp_path / "play.npz", recording()
    for damage in (
        replace(good, obs=good.obs.astype(float)),
        replace(good, action=good.action[:5]),
        replace(good, truncated=np.zeros(11, bool)),
        replace(good, env_reward=np.full(11, np.nan, np.float32)),
        replace(good, next_obs=good.next_obs[:, :2]),
        replace(good, env_id=3),
    ):
        save_recording(path, damage)
        with pytest.raises(CorruptFileError, match="not a whole recording"):
            load_recording(path)
    state = load_state(path)
    del state["obs"]
    save_state(path, state)
    with pytest.raises(CorruptFileError, match="not a whole recording"):
        load_recording(path)


def test_a_failed_save_keeps_the_file_of_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        save_recording(tmp_path / "file" / "play.npz", recording())
