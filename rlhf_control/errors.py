"""The errors a user can mend. The command line prints one as one line and exits with code 2."""

import difflib
import signal
import sys
from collections.abc import Callable, Iterable

HALTED = 3  # exit code of a run that its guard stopped


class UserError(Exception):
    """Says what is wrong, where, and what to do about it, in one sentence or two."""


class Stopped(Exception):
    """Is raised when SIGINT or SIGTERM came; what can be saved has been."""

    def __init__(self, signum: int, hint: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {hint}")
        self.exit_code = 128 + signum


class Halted(Stopped):
    """Is raised when a guard stopped the run; what can be saved has been."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)
        self.exit_code = HALTED


class CorruptFileError(UserError):
    """Names a file of ours that does not hold what was written to it."""


class NonFiniteError(UserError):
    """Names the field, the environment and the step where the method needs numbers and got NaN or infinity."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Makes the error for a name that is not in `known`, with the nearest names first."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known[:20])}"
    return UserError(f"unknown {kind} '{name}'; {hint}")


def guarded(work: Callable[[], int | None], debug: bool = False) -> int:
    """Does some work and returns the exit code, its errors said in one line."""
    try:
        return work() or 0
    except UserError as error:
        if debug:
            raise
        print(f"rlhf-control: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        if debug:
            raise
        said = (
            f"not enough memory ({error}); make --ppo.num-envs, --ppo.num-steps, --net.hidden or observations smaller"
        )
        print(f"rlhf-control: {said}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"rlhf-control: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        return 130


def tell(text: str) -> None:
    print(f"rlhf-control: {text}", file=sys.stderr)
