"""The labelling window of a run, started beside it: two processes that share the run's folder and nothing else, so that
neither's end is the other's."""

import fcntl
import hashlib
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rlhf_control.compute.gl import has_display
from rlhf_control.compute.processes import python
from rlhf_control.config.commands import login_name
from rlhf_control.errors import UserError
from rlhf_control.runs.files import ForeignFileError, open_own, read_own

PROGRAM = "from rlhf_control.cli import main; sys.exit(main())"
LOCK, LOG = "window.lock", "window.log"
LEFT_OPEN: list[subprocess.Popen[bytes]] = []  # Python complains of one that is forgotten while it runs


def arguments(run: Path, env_id: str) -> list[str]:
    """Returns the arguments of `rlhf-control`, for voting on a run that this user has started, and whose environment is
    so trusted."""
    return ["label", str(run), *(["--env-id", env_id] if ":" in env_id else [])]


def command(run: Path, env_id: str) -> str:
    """Says what to type to open the window, or another one for a further annotator."""
    return shlex.join(["rlhf-control", *arguments(run, env_id)])


@contextmanager
def seat(run: Path, annotator: str) -> Iterator[None]:
    """Sees to it that, within, this process is the only one in which this annotator votes on the run: two would be
    given the same question, and the second answer would replace the first. Raises UserError if the seat is taken."""
    name = hashlib.sha256(annotator.encode()).hexdigest()[:16]
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_own(run / f"annotator-{name}.lock", "r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{annotator} is voting on {run} already; close that window, or vote under another name with "
                "--annotator NAME"
            ) from None
        except ForeignFileError:
            raise
        except OSError:  # a folder that cannot be written: the first vote will say so
            pass
        yield


class WindowProcess:
    """Starts the window of a run and notices when it has been closed."""

    def __init__(self, run: Path, env_id: str) -> None:
        self.run, self.env_id = run, env_id
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> str:
        """Starts it; returns why not, or "". One that an earlier start of this run has left open stays the only one."""
        if not has_display():
            return "there is no display for a window"
        try:
            with seat(self.run, login_name()):
                pass
        except ForeignFileError as error:
            return str(error)
        except UserError:  # in a window that was opened by hand, and goes on
            return ""
        try:
            with open_own(self.run / LOCK, "r+b") as lock:
                # The window inherits the lock and holds it as long as it lives, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with open_own(self.run / LOG, "wb") as log:
                    self._process = subprocess.Popen(
                        python(PROGRAM, *arguments(self.run, self.env_id)),
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()],
                        start_new_session=True,  # Ctrl-C is for the run alone
                    )  # fmt: skip
        except BlockingIOError:
            return ""
        except OSError as error:
            return f"the window cannot be started: {error if isinstance(error, UserError) else error.strerror}"
        LEFT_OPEN.append(self._process)
        return ""

    def closed(self) -> str:
        """Tells, once after it ended, how it ended; else ""."""
        if self._process is None or self._process.poll() is None:
            return ""
        code, self._process = self._process.returncode, None
        return "the window was closed" if code == 0 else f"the window ended ({self._last_words() or code})"

    def _last_words(self) -> str:
        lines = []
        with suppress(OSError):
            lines = read_own(self.run / LOG).decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("rlhf-control: ") if lines else ""
