"""Trackers as their own libraries read them, of a run that was killed and resumed."""

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.run import Run
from rlhf_control.runs.trackers import track_id, tracked

CONFIG = PretrainConfig("X", total_steps=1000, checkpoint_seconds=1e9, ppo=PPOConfig(num_envs=10, num_steps=10))
DIE = """
import sys
from tests.peers.test_trackers import go
go(sys.argv[1], sys.argv[2], dies_at=7)
"""


def go(name: str, path: str | Path, dies_at: int | None = None) -> None:
    config = replace(CONFIG, track=name)
    run = Run.open(path) if Path(path).exists() else Run.create(path, "pretrain", config)
    with Loop(run, {}, config, save_before=(3,)) as loop:
        for iteration, log in loop:
            log |= {"env_return": 0.5 * iteration, "score": None if iteration == 2 else float(iteration)}
            if iteration == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a run with this tracker that was killed, resumed and reported."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))

    def make(name: str) -> Run:
        path = tmp_path / "run"
        killed = subprocess.run([sys.executable, "-c", DIE, name, str(path)], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        go(name, path)
        from PIL import Image

        Image.new("RGB", (40, 30), "red").save(path / "curves.png")
        with tracked(Run.open(path), name, asdict(CONFIG), [path / "curves.png"]):
            pass
        return Run.open(path)

    return make


def test_tensorboard(make: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make("tensorboard")
    read = EventAccumulator(str(run.path / "tensorboard"))
    read.Reload()
    rows = run.metrics()
    assert [(e.step, e.value) for e in read.Scalars("env_return")] == [(r["env_steps"], r["env_return"]) for r in rows]
    assert [e.step for e in read.Scalars("score")] == [r["env_steps"] for r in rows if r["score"] is not None]
    assert read.Images("curves")[0].width == 40


def test_trackio(make: Any) -> None:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    run = make("trackio")
    names = [found.name for found in trackio.Api().runs("rlhf_control")]
    assert names == [f"run-{track_id(run)}"]
    logs = SQLiteStorage.get_logs("rlhf_control", names[0])
    points = [(log["step"], log["env_return"]) for log in logs if "env_return" in log]
    assert points == [(row["env_steps"], row["env_return"]) for row in run.metrics()]
    assert any("curves" in log for log in logs)


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: after 7 bytes LevelDB's log, blocks of 32 KiB of parts with checksum, length and
    type (1 whole, 2 first, 3 middle, 4 last)."""
    at, record = 7, b""
    while at + 7 <= len(content):
        length, kind = struct.unpack_from("<HB", content, at + 4)
        if 32768 - at % 32768 < 7 or kind == 0:  # the rest of the block is empty
            at += 32768 - at % 32768
            continue
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_wandb(make: Any) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    run = make("wandb")
    (file,) = (run.path / "wandb").glob(f"offline-run-*/run-{track_id(run)}.wandb")
    for _ in range(100):  # what `finish` has yet to write is written by another process (0.31.0)
        if file.stat().st_size > 7:
            break
        time.sleep(0.1)
    points, pictures = [], 0
    for record in map(Record.FromString, wandb_records(file.read_bytes())):
        row = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if "env_return" in row:
            points.append((int(row["_step"]), float(row["env_return"])))
        pictures += any(name.startswith("curves") for name in row)
    assert points == [(row["env_steps"], row["env_return"]) for row in run.metrics()]
    assert pictures == 1
