"""What a run is doing, for those who label beside it: RUN/status.json, rewritten all the time and read by the window.

It is a courtesy, not a record: nothing is learned from it, and a run whose disk refuses it goes on.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from rlhf_control.runs.files import read_own, refuse_module, replace_file

State = Literal["starting", "training", "waiting", "finished", "stopped", "failed"]  # waiting: for votes
Labelling = Literal["blocking", "async"]
NAME = "status.json"
ENDED = ("finished", "stopped", "failed")
# Seconds without a word after which a run is taken for dead, even if a process has its number: while it waits it
# writes every second; while it trains, every iteration, and a fit of the reward may take a while.
SILENCE = {"waiting": 10.0, "training": 300.0, "starting": 300.0}


@dataclass(frozen=True)
class Status:
    """Says what a run is at, at one moment."""

    state: State
    pid: int
    updated: float  # Unix time
    env_id: str
    env: dict[str, Any] = field(default_factory=dict)  # arguments of gymnasium.make
    step_seconds: float = 0.05  # of one environment step
    question: str = ""  # in words, for the annotators
    kinds: tuple[str, ...] = ("comparison",)  # of feedback that is asked for
    answers: int = 0  # given so far
    wanted: int = 0  # of the whole run
    next_question: float | None = None  # Unix time at which the next round is expected; None: unknown
    labelling: Labelling = "blocking"
    message: str = ""  # why it failed or stopped, an alarm, or that nothing was learned
    more: bool = True  # whether it will ask anything beside what it has asked by now
    holding: bool = False  # the policy stays as it is: the answers do not show yet what is better


def write_status(run: Path, status: Status) -> None:
    """Puts it in the place of the one before, whole or not at all. Does not wait for the disk: after power loss the
    run is dead anyway. Raises OSError."""
    replace_file(run / NAME, (json.dumps(asdict(status), allow_nan=False) + "\n").encode())


def read_status(run: Path) -> Status | None:
    """Reads what the run last said; None if it never said anything that can be read."""
    try:
        values = json.loads(read_own(run / NAME))
        status = Status(**{**values, "kinds": tuple(values["kinds"]), "env": dict(values["env"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return status if _possible(status) else None


def alive(status: Status) -> bool:
    """Tells whether the run that wrote this is still at work."""
    if status.state in ENDED or time.time() - status.updated > SILENCE[status.state]:
        return False
    try:
        os.kill(status.pid, 0)  # signal 0 only asks whether the process is there
    except PermissionError:  # it is, and somebody else's
        return True
    except (OSError, OverflowError):
        return False
    return True


def known_environment(run: Path, status: Status | None) -> Status | None:
    """Reads the status, or what the run's files say about its environment where it wrote none; None if they do not."""
    if status is not None:
        return status
    try:
        env_id = json.loads(read_own(run / "manifest.json"))["env_id"]
        env = json.loads(read_own(run / "config.json"))["config"].get("env", {})
        return Status("finished", 1, 0.0, str(env_id), dict(env))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def trusted_environment(run: Path, status: Status | None, env_id: str) -> Status | None:
    """Reads the same, once `files.refuse_module` has nothing against it. Make the environment of this one: what is read
    again may say something else."""
    environment = known_environment(run, status)
    if environment is not None:
        refuse_module(environment.env_id, run, env_id)
    return environment


def _possible(status: Status) -> bool:
    """Whether the fields hold what they should: another program's JSON must not bring the window down."""
    numbers = (status.pid, status.answers, status.wanted, status.updated, status.step_seconds)
    texts = (status.env_id, status.question, status.message, *status.kinds)
    return (
        status.state in get_args(State)
        and status.labelling in get_args(Labelling)
        and all(isinstance(number, int | float) for number in numbers)
        and isinstance(status.pid, int)
        and status.pid > 0
        and all(isinstance(text, str) for text in texts)
        and isinstance(status.more, bool)
        and (status.next_question is None or isinstance(status.next_question, int | float))
    )
