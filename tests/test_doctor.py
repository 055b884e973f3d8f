import importlib.metadata
import sqlite3

import pytest

from rlhf_control import doctor
from rlhf_control.rendering import clips


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.iterdir()), "the doctor leaves something behind"


def lines(output: str) -> dict[str, str]:
    """Name of a check -> its status."""
    table = output.split("\n\n")[0].splitlines()
    return {line[9:27].strip(): line[:8].strip() for line in table if line[:8].strip()}


def pretend(monkeypatch, **versions: str | None) -> None:
    """Makes packages look installed in these versions, or missing."""
    monkeypatch.setattr(doctor, "_version", lambda p: versions[p] if p in versions else importlib.metadata.version(p))


def test_this_machine_can_train(capsys):
    assert doctor.doctor()
    output = capsys.readouterr().out
    found = lines(output)
    for name in ("python", "torch", "mujoco", "OpenGL", "display", "SQLite", "disk space", "processor", "git"):
        assert name in found
    assert "pytest" not in found, "extras are not needed"
    assert output.endswith("training works here\n")
    assert max(map(len, output.splitlines())) < 150


@pytest.mark.parametrize("version", ["4.0.0", "3.16.1", None])
def test_the_wrong_mujoco_is_a_problem(capsys, monkeypatch, version):
    monkeypatch.setattr(doctor, "_version", lambda p: version if p == "mujoco" else None if p == "pygame" else "9999")
    monkeypatch.setattr(doctor, "EXAMINATIONS", (doctor.packages,))
    assert not doctor.doctor()
    output = capsys.readouterr().out
    assert lines(output)["mujoco"] == "problem"
    assert "-> pip install 'mujoco<4,>=3.17'" in output
    assert output.endswith("training will not work here yet\n")


def test_two_pygames_are_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: "2.6.0")
    (check,) = [check for check in doctor.packages() if check.name == "pygame"]
    assert check.status == "problem" and "pip uninstall -y pygame pygame-ce" in check.remedy


def test_a_package_that_training_can_do_without_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    found = {check.name: check.status for check in doctor.packages()}
    assert (found["torch"], found["pygame-ce"]) == ("problem", "warning")


def test_no_opengl_is_a_warning(monkeypatch):
    monkeypatch.setattr(clips, "choose_gl", lambda: "none")
    (check,) = doctor.pictures()
    assert check.status == "warning" and "apt install libegl1 libgl1-mesa-dri" in check.remedy


def test_no_display_is_a_warning(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert [check.status for check in doctor.display()] == ["warning"]
    monkeypatch.setenv("DISPLAY", ":0")
    assert [check.status for check in doctor.display()] == ["ok"]


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    assert [check.status for check in doctor.disk()] == ["ok", "problem"]
    assert [check.status for check in doctor.sqlite()] == ["problem"]


def test_a_database_that_cannot_be_written_is_a_problem(monkeypatch):
    def fail(*args, **kwargs):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(doctor.sqlite3, "connect", fail)
    (check,) = doctor.sqlite()
    assert check.status == "problem" and "database is locked" in check.found


def test_a_full_disk_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e8}))
    assert next(doctor.disk()).status == "problem"


def test_too_many_threads_and_missing_tools_are_warnings(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    (check,) = doctor.processor()
    assert (check.status, check.remedy) == ("warning", "export OMP_NUM_THREADS=1")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert [check.status for check in doctor.tools()] == ["warning", "warning"]


def test_a_check_that_breaks_does_not_hide_the_others(capsys, monkeypatch):
    def broken():
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "EXAMINATIONS", (broken, doctor.display))
    assert doctor.doctor()
    output = capsys.readouterr().out
    assert "could not be examined: RuntimeError('boom')" in output and "display" in output
