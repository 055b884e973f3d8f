import json
from pathlib import Path

import pytest

from rlhf_control.analysis.sweep_report import Outcome, sweep_report
from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import UserError
from tests.synthetic_runs import finetuning


def outcomes(tmp_path: Path) -> list[Outcome]:
    """Two methods of one task; a seed of the second failed."""
    found = []
    for method, finals in {"one": [1.0, 2.0, 6.0], "two": [4.0]}.items():
        for seed, final in enumerate(finals):
            path = tmp_path / f"{method}-{seed}"
            finetuning(path, FinetuneConfig("halfcheetah", seed=seed), score=[0.0] * 11 + [final])
            found.append(Outcome(path.name, str(path), "jump", method, seed, ""))
    return [*found, Outcome("two-1", str(tmp_path / "two-1"), "jump", "two", 1, "killed by SIGKILL")]


def test_a_sweep_is_told_by_method_and_task(tmp_path: Path) -> None:
    text = sweep_report(outcomes(tmp_path), "", tmp_path)
    assert text == (tmp_path / "summary.md").read_text()
    assert "score at the end" in text and "| method | jump |" in text
    assert "| one | 3 (1 to 6), 3 runs |" in text and "| two | 4, 1 run |" in text
    assert "- two-1 failed: killed by SIGKILL" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["groups"][0] == {
        "task": "jump", "method": "one", "runs": 3, "iqm": 3.0, "low": 1.0, "high": 6.0
    }  # fmt: skip
    assert [run["value"] for run in summary["runs"]] == [1.0, 2.0, 6.0, 4.0, None]


def test_an_unknown_metric_names_the_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown metric 'scor'; did you mean score"):
        sweep_report(outcomes(tmp_path), "scor", tmp_path)


def test_nothing_that_ended_is_told_too(tmp_path: Path) -> None:
    text = sweep_report([Outcome("a", str(tmp_path / "a"), "", "", 0, "oh")], "score", tmp_path)
    assert "| all |  |" in text and "- a failed: oh" in text
