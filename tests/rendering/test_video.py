"""Drawing with the real simulator; the tests of OpenGL are skipped where there is none."""

import gc
import os

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from rlhf_control.errors import UserError
from rlhf_control.rendering import video

# imageio's reader does not close its pipes.
reads_video = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def gray(number: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((number, height, width, 3), 100, np.uint8)


# -- captions


def test_captions_stand_above_and_below_and_cover_nothing():
    frames = np.random.default_rng(0).integers(0, 256, (3, 320, 320, 3), np.uint8)
    captioned = video.caption(frames, "before", ["0.0 s", "0.1 s", "0.1 s"])
    above = video.caption(frames, "before").shape[1] - 320
    below = captioned.shape[1] - 320 - above
    assert 20 < below < above < 40
    assert np.array_equal(captioned[:, above:-below], frames)
    assert captioned[0, :above].max() == 255 and captioned[0, 0].max() == video.BACKGROUND, "white letters"
    assert np.array_equal(captioned[0, :above], captioned[2, :above])
    assert (captioned[0, -below:] != captioned[1, -below:]).any(), "the line below may run"
    assert np.array_equal(captioned[1, -below:], captioned[2, -below:])
    steady = video.caption(frames, "", "steady")
    assert np.array_equal(steady[:, :-below], frames) and np.array_equal(*steady[:2, -below:])
    assert np.array_equal(video.caption(frames, ""), frames)


def test_long_captions_are_cut_to_fit():
    captioned = video.caption(gray(1, 320, 120), "a policy with a name that nobody could read at this size")
    letters = np.flatnonzero((captioned[0, :30] > 200).any((0, 2)))
    assert letters.min() >= 4 and letters.max() < 116


def test_clips_side_by_side_end_on_a_still():
    one, two = gray(2), gray(5, 20, 30)
    two[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    both = video.side_by_side([two, one], pad=6)
    assert both.shape == (5, 40, 96, 3)
    assert np.array_equal(both[:, 10:30, :30], two)
    assert (both[:, :, 30:36] == video.BACKGROUND).all()
    assert (both[:, :, 36:] == 100).all()


# -- files


@reads_video
def test_a_video_can_be_read_back(tmp_path):
    frames = np.zeros((7, 41, 63, 3), np.uint8)
    frames[:, :, :32] = (200, 40, 40)
    path = tmp_path / "new" / "video.mp4"
    video.write_video(path, frames, 20)
    film, facts = imageio.imread(path), imageio.immeta(path)
    gc.collect()
    assert film.shape == (7, 42, 64, 3)
    assert (facts["fps"], facts["codec"]) == (20, "h264") and facts["pix_fmt"].startswith("yuv420p")
    assert np.abs(film[3, 20, 10].astype(int) - (200, 40, 40)).max() < 20
    assert os.listdir(path.parent) == ["video.mp4"]


def test_a_gif_can_be_read_back(tmp_path):
    frames = gray(10)
    for t in range(10):
        frames[t, :, : 6 * t] = (200, 40, 40)
    video.write_gif(tmp_path / "slow.gif", frames, 20)
    with Image.open(tmp_path / "slow.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (10, 50, 0)
    video.write_gif(tmp_path / "fast.gif", frames, 50)
    with Image.open(tmp_path / "fast.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (5, 40)


@pytest.mark.parametrize("fps", [7, 15, 22.2, 30, 62.5, 67])
def test_a_gif_takes_as_long_as_what_it_shows(tmp_path, fps):
    frames = gray(100)
    for t in range(100):
        frames[t, :20, : t % 10 * 6], frames[t, 20:, : t // 10 * 6] = 200, 200  # no two alike
    video.write_gif(tmp_path / "v.gif", frames, fps)
    with Image.open(tmp_path / "v.gif") as image:
        durations = [image.seek(i) or image.info["duration"] for i in range(image.n_frames)]
    assert sum(durations) == pytest.approx(1000 * 100 / fps, abs=10)
    assert min(durations[:-1]) >= 30 and max(durations) <= max(80, 1000 / fps + 10)


@pytest.mark.parametrize("write", [video.write_video, video.write_gif])
def test_a_file_that_cannot_be_written_is_the_users_error(tmp_path, write):
    (tmp_path / "clip").mkdir()  # in the way
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "clip", gray(2), 20)
    assert os.listdir(tmp_path) == ["clip"]


@pytest.mark.parametrize("ffmpeg", ["/bin/false", "/nowhere/ffmpeg"])
def test_a_failing_encoder_leaves_the_old_video(tmp_path, monkeypatch, ffmpeg):
    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", lambda: ffmpeg)
    (tmp_path / "video.mp4").write_text("old")
    with pytest.raises(UserError, match="cannot encode"):
        video.write_video(tmp_path / "video.mp4", gray(2), 20)
    assert (tmp_path / "video.mp4").read_text() == "old"
