"""A run's rows, figures and videos for the dashboards of others: TensorBoard, trackio and Weights & Biases.

What a tracker holds of a run is made of the run's folder: whenever a process takes the run up, the tracker's record of
it is made anew from metrics.jsonl and then follows along. So a run that was killed and resumed has no row twice and
lacks none. Nothing goes over the network unless the environment variable WANDB_MODE is `online`.

tensorboard   event files in RUN/tensorboard; `tensorboard --logdir runs` shows all runs
trackio       trackio's own database, project rlhf_control; `trackio show` opens it, `trackio sync` sends it
wandb         an offline run in RUN/wandb; `wandb sync` sends it
"""

import contextlib
import datetime
import io
import json
import math
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from rlhf_control.errors import UserError, tell
from rlhf_control.runs.run import Run

Row = Mapping[str, Any]

NONE = "none"
PROJECT = "rlhf_control"
GIF_FILTER = "fps=10,scale=320:-1"  # TensorBoard shows videos as GIFs only, which are large


class Tracker(Protocol):
    """Says what a tracker takes: rows of metrics, pictures and videos (paths), and an end."""

    def row(self, row: Row) -> None: ...

    def media(self, path: Path, step: int) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Writes event files, over whatever of them was there."""

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        folder = own_folder(run, "tensorboard")
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        # A TensorBoard that is looking on forgets what it has read so far
        self.writer = SummaryWriter(str(folder), purge_step=0, flush_secs=10)
        started = datetime.datetime.strptime(run.read_json("manifest.json")["started"], "%Y-%m-%dT%H:%M:%S%z")
        self.started = started.timestamp()
        self.writer.add_text("config", f"```json\n{json.dumps(config, indent=2)}\n```", 0, self.started)

    def row(self, row: Row) -> None:
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, row["env_steps"], self.started + row["wall_seconds"])

    def media(self, path: Path, step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        gif = path.suffix == ".mp4"
        content = as_gif(path) if gif else path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=path.stem, image=image)]), step)

    def close(self) -> None:
        self.writer.close()


class Trackio:
    """Writes to trackio's database on this machine, over what it had of this run."""

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        import trackio

        name = f"{run.path.name}-{track_id(run)}"
        elsewhere = {key: os.environ.pop(key, None) for key in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")}
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # is for our own tables
                with contextlib.suppress(ValueError):  # there is no project yet
                    for old in [run for run in trackio.Api().runs(PROJECT) if run.name == name]:
                        old.delete()
                self.run = trackio.init(
                    PROJECT, name, config=config, embed=False, auto_log_cpu=False, auto_log_gpu=False
                )
        finally:
            os.environ.update({key: value for key, value in elsewhere.items() if value is not None})
        self.trackio = trackio

    def row(self, row: Row) -> None:
        self.run.log(numbers(row), step=row["env_steps"])

    def media(self, path: Path, step: int) -> None:
        kind = self.trackio.Video if path.suffix == ".mp4" else self.trackio.Image
        self.run.log({path.stem: kind(str(path))}, step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()


class WeightsAndBiases:
    """Writes an offline run over the one that was there; online, goes on after the last row that was sent."""

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        name = track_id(run)
        for old in own_folder(run, "wandb").glob(f"offline-run-*-{name}"):
            shutil.rmtree(old)
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True)
        self.run = wandb.init(
            project=PROJECT, id=name, name=run.path.name, dir=str(run.path), config=config, mode=mode,
            resume="allow" if mode == "online" else None, settings=quiet,
        )  # fmt: skip
        self.sent = self.run.step if self.run.resumed else 0
        self.wandb = wandb

    def row(self, row: Row) -> None:
        if row["env_steps"] >= self.sent:
            self.run.log(numbers(row), step=row["env_steps"])

    def media(self, path: Path, step: int) -> None:
        made = self.wandb.Video(str(path)) if path.suffix == ".mp4" else self.wandb.Image(str(path))
        self.run.log({path.stem: made}, step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, tuple[str, Callable[[Run, dict[str, Any]], Tracker]]] = {  # name -> its module, what writes
    "tensorboard": ("tensorboardX", TensorBoard),
    "trackio": ("trackio", Trackio),
    "wandb": ("wandb", WeightsAndBiases),
}


def check_tracker(name: str) -> None:
    """Raises UserError if what this tracker needs is not installed."""
    if name != NONE and find_spec(TRACKERS[name][0]) is None:
        raise UserError(
            f"--track {name} needs {TRACKERS[name][0]}, which is not installed: pip install 'rlhf_control[track]'"
        )


@contextlib.contextmanager
def tracked(run: Run, name: str, config: dict[str, Any], media: Sequence[Path] = ()) -> Iterator[Callable[[Row], None]]:
    """Gives what takes the run's further rows, once the tracker has those in the folder, and these pictures and videos.
    A tracker that fails is said in one line and left out from then on: it never ends a run."""
    check_tracker(name)
    following: list[Tracker] = []

    def attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is: a tracker is a convenience
            following.clear()
            said = str(error).partition("\n")[0] or type(error).__name__
            tell(f"{name} failed ({said}); the run goes on without, and metrics.jsonl has every row")

    def begin() -> None:
        following.append(TRACKERS[name][1](run, config))
        last = 0
        for row in run.metrics():
            following[0].row(row)
            last = row["env_steps"]
        for path in media:
            following[0].media(path, last)

    def show(row: Row) -> None:
        if following:
            attempt(lambda: following[0].row(row))

    if name != NONE:
        attempt(begin)
    try:
        yield show
    finally:
        if following:
            attempt(following[0].close)


def numbers(row: Row) -> dict[str, float]:
    """Returns what of a row can be drawn: all but what is missing or not finite."""
    return {k: float(v) for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}


def own_folder(run: Run, name: str) -> Path:
    """Returns a tracker's folder in the run's. Raises UserError for a link there: what is not ours is not removed."""
    folder = run.path / name
    if folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link; move it away")
    return folder


def track_id(run: Run) -> str:
    """Returns the name under which trackers know the run, wherever its folder is: eight hexadecimal digits, chosen
    when they are first asked for."""
    manifest = run.read_json("manifest.json")
    if "track_id" not in manifest:
        manifest["track_id"] = secrets.token_hex(4)
        run.write_json("manifest.json", manifest)
    return str(manifest["track_id"])


def as_gif(path: Path) -> bytes:
    """Returns a video (.mp4) as a GIF, with fewer and smaller pictures."""
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-vf", GIF_FILTER, "-f", "gif", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout
