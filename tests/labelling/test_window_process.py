import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_control.errors import UserError
from rlhf_control.labelling import window_process as window_process
from rlhf_control.labelling.window_process import WindowProcess, command, seat

STUB = "import runpy; assert sys.argv[1] == 'label'; runpy.run_path(sys.argv[2] + '/script.py')"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A window of our own, in the place of the real one, which does what RUN/script.py says."""
    monkeypatch.setattr(window_process, "PROGRAM", STUB)
    monkeypatch.setenv("DISPLAY", ":0")  # which nobody looks at here
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    return run


def wait_for_end(window: WindowProcess) -> str:
    deadline = time.monotonic() + 30
    while not (said := window.closed()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said


def pid_of(run: Path) -> int:
    deadline = time.monotonic() + 30
    while not (run / "pid").exists() or not (run / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int((run / "pid").read_text())


SLEEPS = (
    "import os, pathlib, time; pathlib.Path(__file__).with_name('pid').write_text(str(os.getpid())); time.sleep(60)"
)


def test_a_window_that_is_closed_is_mentioned_once(stub: Path) -> None:
    (stub / "script.py").write_text("print('bye')")
    window = WindowProcess(stub, "Ant-v5")
    assert window.open() == "" and wait_for_end(window) == "the window was closed" and window.closed() == ""


def test_what_a_failing_window_said_is_passed_on(stub: Path) -> None:
    (stub / "script.py").write_text("import sys; print('rlhf-control: no pygame', file=sys.stderr); sys.exit(2)")
    window = WindowProcess(stub, "Ant-v5")
    window.open()
    assert wait_for_end(window) == "the window ended (no pygame)"
    (stub / "script.py").write_text("import os; os._exit(3)")
    window.open()
    assert wait_for_end(window) == "the window ended (3)"


def test_it_outlives_its_run_and_stays_the_only_one(stub: Path) -> None:
    (stub / "script.py").write_text(SLEEPS)
    code = f"import sys; sys.path.insert(0, {str(Path(window_process.__file__).parents[2])!r});"
    code += "from pathlib import Path; from rlhf_control.labelling import window_process as window_process;"
    code += "from rlhf_control.labelling.window_process import WindowProcess;"
    code += f"import os; window_process.PROGRAM = {STUB!r};"
    code += "assert WindowProcess(Path('run'), 'Ant-v5').open() == ''; os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", code])
    assert run.returncode == -signal.SIGKILL
    pid = pid_of(stub)
    (stub / "pid").unlink()
    again = WindowProcess(stub, "Ant-v5")
    assert again.open() == "" and again.closed() == "" and not (stub / "pid").exists()  # the first one is still there
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not (stub / "pid").exists():
        assert time.monotonic() < deadline
        again.open()
        time.sleep(0.1)
    os.kill(pid_of(stub), signal.SIGKILL)
    assert wait_for_end(again) == "the window ended (-9)"


def test_ctrl_c_is_for_the_run_alone(stub: Path) -> None:
    (stub / "script.py").write_text(SLEEPS)
    window = WindowProcess(stub, "Ant-v5")
    window.open()
    pid = pid_of(stub)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(window)


def test_without_a_display_none_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert WindowProcess(tmp_path, "Ant-v5").open() == "there is no display for a window" and not list(
        tmp_path.iterdir()
    )
    monkeypatch.setenv("DISPLAY", ":0")
    assert "cannot be started" in WindowProcess(tmp_path / "gone", "Ant-v5").open()
    assert command(Path("runs/x"), "Ant-v5") == "rlhf-control label runs/x"
    assert command(Path("a b"), "own:Env-v0") == "rlhf-control label 'a b' --env-id own:Env-v0"


def test_an_annotator_sits_in_one_place(tmp_path: Path) -> None:
    taken = pytest.raises(UserError, match=r"ann is voting on .* already; .*--annotator NAME")
    with seat(tmp_path, "ann"), seat(tmp_path, "bob"), taken, seat(tmp_path, "ann"):
        pass
    with seat(tmp_path, "ann"):
        pass
    with seat(tmp_path / "nowhere", "ann"):  # a folder that cannot be written is somebody else's complaint
        pass


def test_links_and_pipes_in_the_place_of_its_files_are_refused(stub: Path) -> None:
    precious = stub.parent / "precious"
    precious.write_text("work of years")
    (stub / "script.py").write_text("")
    for name in (window_process.LOCK, window_process.LOG):
        (stub / name).symlink_to(precious)
        assert "a symbolic link" in WindowProcess(stub, "Ant-v5").open() and precious.read_text() == "work of years"
        (stub / name).unlink()
        os.mkfifo(stub / name)
        assert "a pipe" in WindowProcess(stub, "Ant-v5").open()
        (stub / name).unlink()
    with seat(stub, "ann"):
        lock = stub / f"annotator-{hashlib.sha256(b'ann').hexdigest()[:16]}.lock"
        lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(UserError, match="a symbolic link"), seat(stub, "ann"):
        pass
    assert precious.read_text() == "work of years"
