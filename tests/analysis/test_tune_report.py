from pathlib import Path

import numpy as np
import pytest

from rlhf_control.analysis.tune_report import ends_of, positions, tune_report
from rlhf_control.config.options import read_toml
from rlhf_control.config.search_space import Space, Span
from rlhf_control.errors import UserError
from rlhf_control.sweeps.tune import Found

SPACE: Space = {"ppo.lr": Span(1e-4, 1e-2, log=True), "net.hidden": ((8, 8), (64,))}
TRIALS = [
    Found(0, {"ppo.lr": 1e-3, "net.hidden": [8, 8]}, 1.0, "complete"),
    Found(1, {"ppo.lr": 1e-2, "net.hidden": [64]}, 3.0, "complete"),
    Found(2, {"ppo.lr": 1e-4, "net.hidden": [64]}, None, "pruned"),
    Found(3, {"ppo.lr": 1e-4, "net.hidden": [64]}, None, "fail"),
]
ABOUT = {"command": "pretrain", "metric": "env_return", "options": {"env_id": "X"}}


def test_a_search_is_told_and_its_best_is_a_file(tmp_path: Path) -> None:
    text = tune_report(TRIALS, {"ppo.lr": 0.9, "net.hidden": 0.1}, SPACE, ABOUT, tmp_path)
    assert text == (tmp_path / "report.md").read_text()
    assert "2 complete, 1 pruned, 1 failed" in text and "| 1 | 3 | 0.01 | 64 |\n| 0 | 1 | 0.001 | 8x8 |" in text
    assert {p.name for p in tmp_path.iterdir()} == {"preset.toml", "report.md"} | {
        f"{name}.{kind}" for name in ("parallel_coordinates", "importances") for kind in ("png", "pdf")
    }
    file = read_toml(tmp_path / "preset.toml")
    assert file["options"] == {"env_id": "X", "ppo": {"lr": 0.01}, "net": {"hidden": [64]}}


def test_where_lines_cross_the_axes() -> None:
    complete = TRIALS[:2]
    np.testing.assert_allclose(positions(complete, "ppo.lr", SPACE["ppo.lr"]), [0.5, 1.0])
    np.testing.assert_allclose(positions(complete, "net.hidden", SPACE["net.hidden"]), [0.0, 1.0])
    assert ends_of(SPACE["net.hidden"]) == [(0.0, "8x8"), (1.0, "64")]


def test_without_a_whole_trial_there_is_no_preset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of 2 trials came to its end"):
        tune_report(TRIALS[2:], {}, SPACE, ABOUT, tmp_path)
    assert "![" not in tune_report(TRIALS[:1], {}, SPACE, ABOUT, tmp_path)
