"""Rows of metrics on the disk, whole and damaged."""

import json
from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import CorruptFileError
from rlhf_control.runs.rows import rewind
from rlhf_control.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "pretrain", PretrainConfig("HalfCheetah-v5", seed=3))


def test_metrics_survive_a_crash_in_the_middle_of_a_row(run: Run) -> None:
    run.log({"iteration": 0, "x": 1.0})
    run.log({"iteration": 1, "x": float("nan")})
    with open(run.metrics_path, "a") as file:
        file.write('{"iteration": 2, "x"')
    assert run.metrics() == [{"iteration": 0, "x": 1.0}, {"iteration": 1, "x": None}]
    rewind(run.metrics_path, 1)
    assert [json.loads(line) for line in run.metrics_path.read_text().splitlines()] == [{"iteration": 0, "x": 1.0}]


def test_damage_in_the_middle_of_the_metrics_is_named(run: Run) -> None:
    run.metrics_path.write_text('{"iteration": 0}\nrubbish\n{"iteration": 2}\n')
    with pytest.raises(CorruptFileError, match="line 2"):
        run.metrics()


def test_last_metrics_is_the_newest_whole_row(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("CartPole-v1"))
    assert run.last_metrics() is None
    for i in range(2000):
        run.log({"iteration": i, "env_steps": i, "padding": "x" * 100})
    with open(run.metrics_path, "a") as file:
        file.write('{"iteration": 2000, "env_st')  # cut off by a crash
    last = run.last_metrics()
    assert last is not None and last["env_steps"] == 1999
