"""The quick half of `experiments/reliability.py`: what needs no training."""

import sys
from pathlib import Path

import pytest

from rlhf_control.rng import stream
from rlhf_control.runs.files import save_state

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import reliability
from reliability import QUICK


def test_files_stores_votes_and_starts_hold(tmp_path: Path) -> None:
    (tmp_path / "pretrain").mkdir()
    save_state(tmp_path / "pretrain" / "policy.npz", {"weights": stream(0, "w").normal(size=50)})
    rows = [
        *reliability.damaged_files(tmp_path, QUICK, stream(0, "files")),
        reliability.damaged_store(tmp_path, QUICK, stream(0, "store")),
        reliability.killed_annotators(tmp_path, QUICK, stream(0, "annotators")),
        reliability.simultaneous_starts(tmp_path, QUICK),
    ]
    assert all(row.held == row.tried > 0 for row in rows), rows
    assert "| 60 of 60 |" in reliability.table(rows)


def test_what_does_not_hold_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pretrain").mkdir()
    save_state(tmp_path / "pretrain" / "policy.npz", {"weights": stream(0, "w").normal(size=50)})
    monkeypatch.setattr(reliability, "load_state", lambda path: {})
    flips, _ = reliability.damaged_files(tmp_path, QUICK, stream(0, "files"))
    assert flips.held == 0 and flips.tried == QUICK.flips
