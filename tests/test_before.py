"""A run that an older version left half-way is read, looked at and gone on with."""

import json
import shutil
from pathlib import Path

import pytest

from rlhf_control import cli, train
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.run import Run

BEFORE = Path(__file__).parent / "data" / "before" / "finetune"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(BEFORE, tmp_path / "run")
    return tmp_path / "run"


def test_its_votes_are_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeedbackStore(run / "labels.sqlite", create=False)
    assert {asked.kind for asked in store.asked()} == {"comparison", "ranking", "rating", "reward"}
    before = len(store.votes())
    assert cli.main(["labels", str(run)]) == 0 and "ranking" in capsys.readouterr().out
    assert len(store.votes()) == before > 0


def test_its_policy_acts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_policy(run).spaces.obs_dtype == "float32"
    assert cli.main(["evaluate", str(run), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_it_goes_on_to_its_end(run: Path) -> None:
    rows = Run.open(run).metrics()
    again = train.resume(run)
    assert again.metrics()[: len(rows)] == rows and len(again.metrics()) == 8 > len(rows)
    assert again.metrics()[-1]["labels"] == 12 and (run / "policy.npz").exists()


def test_it_can_be_plotted(run: Path, tmp_path: Path) -> None:
    train.resume(run)
    assert cli.main(["plot", str(run), "--out", str(tmp_path / "curves")]) == 0
    assert (tmp_path / "curves.png").stat().st_size > 1000
