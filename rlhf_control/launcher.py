"""The labelling window of a run, started beside it: two processes that share the run's folder and nothing else, so that
neither's end is the other's."""

import fcntl
import subprocess
import sys
from pathlib import Path

from rlhf_control.gl import has_display

LOCK, LOG = "window.lock", "window.log"
LEFT_OPEN: list[subprocess.Popen[bytes]] = []  # Python complains of one that is forgotten while it runs


def command(run: Path) -> str:
    """What to type to open the window, or another one for a further annotator."""
    return f"rlhf-control label {run}"


class Window:
    """Starts the window of a run and notices when it has been closed."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> str:
        """Starts it; returns why not, or "". One that an earlier start of this run has left open stays the only one."""
        if not has_display():
            return "there is no display for a window"
        try:
            with open(self.run / LOCK, "wb") as lock, open(self.run / LOG, "ab") as log:
                # The window inherits the lock and holds it as long as it lives, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log.truncate(0)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "rlhf_control", "label", str(self.run)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()],
                    start_new_session=True,  # Ctrl-C is for the run alone
                )  # fmt: skip
        except BlockingIOError:
            return ""
        except OSError as error:
            return f"the window cannot be started: {error.strerror}"
        LEFT_OPEN.append(self._process)
        return ""

    def closed(self) -> str:
        """Once after it ended, how; else ""."""
        if self._process is None or self._process.poll() is None:
            return ""
        code, self._process = self._process.returncode, None
        return "the window was closed" if code == 0 else f"the window ended ({self._last_words() or code})"

    def _last_words(self) -> str:
        lines = (self.run / LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("rlhf-control: ") if lines else ""
