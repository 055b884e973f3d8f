import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.errors import UserError
from rlhf_control.runs.status import SILENCE, Status, alive, read_status, trusted_environment, write_status


def now(**more: object) -> Status:
    return replace(Status("training", os.getpid(), time.time(), "HalfCheetah-v5"), **more)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    status = Status(
        "waiting",
        12,
        3.5,
        "X-v0",
        {"a": 1},
        0.04,
        "Which?",
        ("comparison", "rating"),
        3,
        100,
        99.5,
        "async",
        "so",
        False,
    )
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    write_status(tmp_path, replace(status, next_question=None))
    assert read_status(tmp_path) == replace(status, next_question=None)
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_missing_and_damaged_files_are_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None and read_status(tmp_path / "nowhere") is None
    write_status(tmp_path, now())
    path = tmp_path / "status.json"
    whole = path.read_text()
    for damage in ("", "{}", "[1]", "null", whole[:40], whole.replace("training", "dreaming"), "\x00"):
        path.write_text(damage)
        assert read_status(tmp_path) is None, damage
    for name, value in (
        ("pid", "1"),
        ("pid", -1),
        ("answers", None),
        ("kinds", 3),
        ("env", "x"),
        ("updated", "y"),
        ("more", 1),
    ):
        path.write_text(json.dumps({**json.loads(whole), name: value}))
        assert read_status(tmp_path) is None, name
    path.write_bytes(b"\xff\xfe")
    assert read_status(tmp_path) is None


def test_a_folder_that_cannot_be_written_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_status(tmp_path / "gone", now())
    (tmp_path / "status.json").mkdir()
    with pytest.raises(OSError):
        write_status(tmp_path, now())
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_run_is_alive_until_its_process_or_its_word_ends() -> None:
    assert alive(now()) and alive(now(state="waiting")) and alive(now(state="starting"))
    for state in ("finished", "stopped", "failed"):
        assert not alive(now(state=state))
    for state, seconds in SILENCE.items():  # another process may have got the number by now
        assert alive(now(state=state, updated=time.time() - 0.5 * seconds))
        assert not alive(now(state=state, updated=time.time() - seconds - 1))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not alive(now(pid=process.pid)) and not alive(now(pid=2**70))


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_what_is_no_file_says_nothing_and_is_replaced(tmp_path: Path, what: str) -> None:
    path, precious = tmp_path / "status.json", tmp_path / "precious"
    write_status(tmp_path, now())
    path.rename(precious)
    content = precious.read_bytes()
    path.symlink_to(precious) if what == "link" else os.mkfifo(path)
    assert read_status(tmp_path) is None
    write_status(tmp_path, now(answers=7))
    status = read_status(tmp_path)
    assert status is not None and status.answers == 7 and precious.read_bytes() == content


def test_the_environment_that_was_checked_is_the_one_to_make(tmp_path: Path) -> None:
    assert trusted_environment(tmp_path, None, "") is None
    for status in (now(env_id="own:Env-v0"), None):
        if status is None:
            (tmp_path / "manifest.json").write_text('{"env_id": "own:Env-v0"}')
            (tmp_path / "config.json").write_text('{"config": {"env": {"a": 1}}}')
        with pytest.raises(UserError, match="would import own"):
            trusted_environment(tmp_path, status, "other:Env-v0")
        found = trusted_environment(tmp_path, status, "own:Env-v0")
        assert found is not None and found.env_id == "own:Env-v0"
