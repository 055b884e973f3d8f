"""Which checkpoint of a run counts."""

from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.run import KEEP_CHECKPOINTS, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "pretrain", PretrainConfig("HalfCheetah-v5", seed=3))


def test_the_newest_whole_checkpoint_counts(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        run.save_checkpoint(i, {"x": np.array([i])})
    assert len(list((run.path / "checkpoints").iterdir())) == KEEP_CHECKPOINTS
    newest = checkpoint_path(run.path, 4)
    newest.write_bytes(newest.read_bytes()[:-100])
    iteration, state = run.load_checkpoint()
    assert iteration == 3 and state["x"] == [3]
    assert "00000004.npz" in capsys.readouterr().err
    again = checkpoint_path(run.path, 3)
    again.write_bytes(again.read_bytes()[:-100])
    with pytest.raises(UserError, match="no whole checkpoint"):
        run.load_checkpoint()


def test_before_the_first_checkpoint_there_is_nothing_to_load(run: Run) -> None:
    assert run.load_checkpoint() == (0, {})
