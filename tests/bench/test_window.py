import json
import os
import subprocess
from pathlib import Path

import pytest

from rlhf_control.bench import window as bench_window
from rlhf_control.cli import main
from rlhf_control.compute import gl
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError

RESULT = {
    "seconds": {
        "vote": [0.01, 0.02, 0.03], "next_frame": [0.01], "frame": [0.001] * 99 + [0.02], "open": [0.5, 0.7],
        "first_pair": [2.0], "pair_320": [0.25], "pair_480": [0.5],
    },
    "megabytes": {"30": 15.73, "75": 35.8}, "versions": {"mujoco": "9"}, "cores": 2, "processor": "a chip",
    "python": "3",
}  # fmt: skip


def test_the_table_by_hand() -> None:
    lines = bench_window.table(RESULT).splitlines()
    assert lines[2] == "| key to vote on the disk, ms | p99 <= 50 | 20.0 | 30.0 | 3 |"
    assert lines[4] == "| work of a frame while a pair plays, ms | p99 <= 16.7 | 1.0 | 20.0 | 100 |"
    assert lines[5] == "| window open, from the start of the process, s | <= 1 | 0.70 | 0.70 | 2 |"
    assert lines[9] == "| 1,400 queries of two 30-step clips, MB | <= 25 | 15.7 | | 1 |"
    assert lines[10] == "| 1,400 queries of two 75-step clips, MB |  | 35.8 | | 1 |"
    assert lines[-1] == "HalfCheetah-v5; 2 cores, a chip, Python 3; mujoco 9"


@pytest.mark.skipif(gl.choose_gl() == "none", reason="no OpenGL here")
def test_bench_window_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real window, and few votes."""
    monkeypatch.setattr(bench_window, "QUERIES", 6)
    monkeypatch.setattr(bench_window, "VOTES", 3)
    monkeypatch.setattr(bench_window, "PAIRS", 2)
    out = tmp_path / "window.json"
    assert main(["bench", "window", "--runs", "1", "--out", str(out)]) == 0
    assert "| key to vote on the disk, ms | p99 <= 50 |" in capsys.readouterr().out
    seconds = json.loads(out.read_text())["seconds"]
    sizes = {name: len(values) for name, values in seconds.items()}
    frames = sizes.pop("frame")
    assert sizes == {"vote": 3, "next_frame": 3, "open": 1, "first_pair": 1, "pair_320": 2, "pair_480": 2}
    assert frames > 10 and all(0 < value < 60 for values in seconds.values() for value in values)
    assert all(a > b for a, b in zip(seconds["first_pair"], seconds["open"], strict=True))
    assert os.listdir(tmp_path) == ["window.json"]


def test_what_goes_wrong_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="name another --out"):
        bench_window.bench_window(BenchConfig("window", out=str(tmp_path / "nowhere" / "b.json")))
    with pytest.raises(UserError, match=r"could not be timed: .*nothing_of_this_name"):
        bench_window.in_window("nothing_of_this_name", tmp_path, 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(subprocess.TimeoutExpired("", 1)))
    with pytest.raises(UserError, match="is the machine busy"):
        bench_window.in_window("open_once", tmp_path, 1)
