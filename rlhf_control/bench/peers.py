"""How the peers are timed: each in a process of its own, by turns."""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control.bench import ppo_peer as bench_peer
from rlhf_control.compute.processes import SAFE_PATH
from rlhf_control.errors import UserError

NUM_ENVS = 8
STEPS = {"CartPole-v1": 2048}  # of each environment between two updates, where it is not 256
ATARI_STEPS = 128  # of ALE's games


class Peer:
    """Runs a learner in a process of its own, which waits, without using a core, until it is asked to run."""

    def __init__(self, name: str, python: str, env_id: str, steps: int) -> None:
        self.start(name, command(name, python, env_id, steps), {"OMP_NUM_THREADS": "1"} if name == "rllib" else {})

    def start(self, name: str, script: list[str], environment: dict[str, str]) -> None:
        """Starts the process and waits until it is warm. Raises UserError where that fails."""
        self.name = name
        self.errors = TemporaryDirectory()
        self.log = Path(self.errors.name) / "stderr"
        with open(self.log, "w") as log:
            try:
                self.process = subprocess.Popen(
                    script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    env={**os.environ, **SAFE_PATH, **environment},
                )  # fmt: skip
            except OSError as error:
                self.errors.cleanup()
                raise UserError(f"{name} could not be timed: {script[0]}: {error.strerror}") from error
        self.facts = self._answer()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.errors.cleanup()

    def run(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            error = failure(self.name, self.log.read_text())
            self.__exit__()
            raise error
        return json.loads(line)


def failure(name: str, stderr: str) -> UserError:
    """Makes the error with the last line of what a learner that failed has said."""
    words = stderr.strip().splitlines() or ["it said nothing"]
    return UserError(f"{name} could not be timed: {words[-1]}")


def command(name: str, python: str, env_id: str, steps: int, *whole: str) -> list[str]:
    return [python, bench_peer.__file__, name, env_id, str(NUM_ENVS), str(steps), *whole]


def speeds(learner: dict[str, Any]) -> np.ndarray:
    """Returns the speed of each run, (runs,) steps/s."""
    return np.array([run["steps"] / run["seconds"] for run in learner["runs"]])
