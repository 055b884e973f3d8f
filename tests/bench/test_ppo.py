import json
from pathlib import Path

import pytest

from rlhf_control.bench.ppo import table, task_lines
from rlhf_control.bench.ppo_peer import HALF
from rlhf_control.cli import main

RUNS = [{"seconds": s, "steps": 1000, "parts": {"environment": s / 2, "inference": s / 10, "update": s / 5}}
        for s in (0.1, 0.2, 0.4)]  # fmt: skip
RESULT = {
    "tasks": {"T-v0": {"learners": {
        "ours": {"version": "1", "runs": RUNS},
        "sb3": {"version": "2.9", "runs": [{"seconds": 1.0, "steps": 500, "parts": {}}] * 3},
    }}},
    "million": {"ours": [10.0, 20.0, 10.0], "sb3": [60.0, 80.0, 70.0]},
    "versions": {"torch": "9"}, "cores": 2, "processor": "a chip", "python": "3",
}  # fmt: skip


def test_the_table_by_hand() -> None:
    lines = table(RESULT).splitlines()
    assert lines[2] == "| T-v0 | ours | 5,000 | | 100.0 | 20.0 | 40.0 | 40.0 |"  # the median run: 200 us a step
    assert lines[3] == "| T-v0 | sb3 2.9 | 500 | **10.0** (5.0 to 20.0) | | | | |"
    assert "ours 10 s, sb3 70 s: **6.0** times (4.0 to 7.0)" in lines[5]
    assert "2 cores" in lines[-1] and "a chip" in lines[-1] and "torch 9" in lines[-1]


def test_a_cnn_in_bfloat16_has_a_row_and_a_ratio_of_its_own() -> None:
    learners = RESULT["tasks"]["T-v0"]["learners"]  # type: ignore[index]
    faster = [{**run, "seconds": run["seconds"] / 2} for run in RUNS]
    task = {"learners": {"ours": learners["ours"], HALF: {"version": "1", "runs": faster}, "sb3": learners["sb3"]}}
    lines = task_lines("T-v0", task).splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["ours", HALF, "sb3 2.9"]
    assert lines[2] == "| T-v0 | sb3 2.9 | 500 | **10.0** (5.0 to 20.0), bfloat16 **20.0** (10.0 to 40.0) | | | | |"


def test_bench_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "b.json"
    arguments = ["--tasks", "Hopper-v5", "--runs", "2", "--seconds", "0.01", "--out", str(out)]
    assert main(["bench", "ppo", *arguments]) == 0
    text = capsys.readouterr().out
    assert "| Hopper-v5 | ours |" in text and "| Hopper-v5 | sb3" in text
    learners = json.loads(out.read_text())["tasks"]["Hopper-v5"]["learners"]
    for learner in learners.values():
        assert len(learner["runs"]) == 2 and all(run["steps"] % 2048 == 0 for run in learner["runs"])
    for run in learners["ours"]["runs"]:
        assert 0 < sum(run["parts"].values()) < run["seconds"] and min(run["parts"].values()) > 0
