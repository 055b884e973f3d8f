import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.rendering.video import write_video
from rlhf_control.runs import trackers
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.run import Run
from rlhf_control.runs.trackers import NONE, Row, as_gif, check_tracker, numbers, track_id, tracked
from tests.event_files import events_of, scalars_of

CONFIG = PretrainConfig(
    "X", total_steps=1000, checkpoint_seconds=1e9, track="tensorboard", ppo=PPOConfig(num_envs=10, num_steps=10)
)
TRAIN = """
import os, signal, sys
from tests.runs.test_trackers import go
from rlhf_control.runs.run import Run
go(Run.open(sys.argv[1]), stop_at=7, signum=signal.SIGKILL)
"""


def go(run: Run, *, stop_at: int | None = None, signum: int = signal.SIGTERM) -> None:
    with Loop(run, {}, CONFIG, save_before=(3,)) as loop:
        for iteration, log in loop:
            log |= {"env_return": 0.5 * iteration, "score": None if iteration == 2 else float(iteration)}
            if iteration == stop_at:
                os.kill(os.getpid(), signum)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run", "pretrain", CONFIG)
    run.unlock()
    return run


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboardX")


def check_rows(run: Run) -> None:
    """The event files have the rows of metrics.jsonl, each once and in order."""
    scalars, rows = scalars_of(run.path / "tensorboard"), run.metrics()
    assert [row["iteration"] for row in rows] == list(range(10))
    assert set(scalars) == set(rows[0])
    for name, points in scalars.items():
        known = [(row["env_steps"], np.float32(row[name])) for row in rows if row[name] is not None]
        assert points == known, name


@pytest.mark.usefixtures("tensorboard")
def test_a_stopped_run_has_each_row_once(run: Run) -> None:
    with pytest.raises(Stopped):
        go(run, stop_at=5)
    assert [step for step, _ in scalars_of(run.path / "tensorboard")["env_return"]] == [100, 200, 300, 400, 500, 600]
    go(Run.open(run.path))
    check_rows(run)


@pytest.mark.usefixtures("tensorboard")
def test_a_killed_run_has_each_row_once(run: Run) -> None:
    """It did the iterations 3 to 7 before it died, and does them again."""
    killed = subprocess.run([sys.executable, "-c", TRAIN, str(run.path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["iteration"] for row in run.metrics()] == list(range(7))
    go(Run.open(run.path))
    check_rows(run)


@pytest.mark.usefixtures("tensorboard")
def test_figures_and_video_come_at_the_end(run: Run, tmp_path: Path) -> None:
    go(run)
    figure, video = tmp_path / "curves.png", tmp_path / "before_after.mp4"
    Image.new("RGB", (40, 30), "red").save(figure)
    write_video(video, np.zeros((20, 64, 96, 3), np.uint8), 30.0)
    with tracked(run, "tensorboard", asdict(CONFIG), [figure, video]):
        pass
    check_rows(run)
    shown = {v.tag: (e.step, v) for e in events_of(run.path / "tensorboard") for v in e.summary.value}
    step, curves = shown["curves"]
    assert (step, curves.image.width, curves.image.height) == (1000, 40, 30)
    assert curves.image.encoded_image_string == figure.read_bytes()
    assert shown["before_after"][1].image.encoded_image_string.startswith(b"GIF8")
    assert "num_envs" in str(shown["config/text_summary"][1].tensor)


def test_a_video_becomes_a_gif_of_the_same_duration(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((90, 64, 96, 3), np.uint8), 30.0)
    (tmp_path / "a.gif").write_bytes(as_gif(tmp_path / "a.mp4"))
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (320, 213)
        seconds = 0.0
        for i in range(getattr(gif, "n_frames", 1)):
            gif.seek(i)
            seconds += gif.info["duration"] / 1000
    assert seconds == pytest.approx(3, abs=0.1)


class Broken:
    """A tracker that fails at one of its calls."""

    fails_at = ""

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        self._call("begin")

    def _call(self, name: str) -> None:
        if name == self.fails_at:
            raise OSError("the dashboard is down\nand much more")

    def row(self, row: Row) -> None:
        self._call("row")

    def media(self, path: Path, step: int) -> None:
        self._call("media")

    def close(self) -> None:
        self._call("close")


@pytest.mark.parametrize("fails_at", ["begin", "row", "media", "close"])
def test_a_tracker_that_fails_ends_nothing(
    run: Run, fails_at: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Broken, "fails_at", fails_at)
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", ("json", Broken))
    go(run)
    with tracked(run, "tensorboard", {}, [tmp_path / "a.png"]):
        pass
    assert [row["iteration"] for row in run.metrics()] == list(range(10))
    said = capsys.readouterr().err.splitlines()
    assert said and all("tensorboard failed (the dashboard is down); the run goes on" in line for line in said)
    assert len(said) == {"begin": 2, "row": 2, "media": 1, "close": 2}[fails_at]  # once in the run, once in the report


def test_a_missing_package_is_said_before_there_is_anything(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", ("not_installed_anywhere", Broken))
    with pytest.raises(UserError, match=r"pip install 'rlhf_control\[track\]'"):
        Loop(run, {}, CONFIG)
    with pytest.raises(UserError, match="not_installed_anywhere"):
        check_tracker("tensorboard")
    check_tracker(NONE)
    Loop(run, {}, replace(CONFIG, track=NONE))


@pytest.mark.usefixtures("tensorboard")
def test_nothing_is_removed_through_a_link(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    precious = tmp_path / "elsewhere/events.out.tfevents.1"
    precious.write_text("precious")
    (run.path / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with tracked(run, "tensorboard", {}):
        pass
    assert "symbolic link" in capsys.readouterr().err
    assert precious.read_text() == "precious"


def test_the_name_at_trackers_stays(run: Run) -> None:
    name = track_id(run)
    assert len(name) == 8 and track_id(Run.open(run.path)) == name
    assert run.read_json("manifest.json")["verb"] == "pretrain"


def test_numbers() -> None:
    assert numbers({"a": 1, "b": None, "c": float("nan"), "d": 0.5, "e": "text"}) == {"a": 1.0, "d": 0.5}
