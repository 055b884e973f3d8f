import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run
from rlhf_control.runs.watchdog import WATCHDOG
from rlhf_control.simulation.foreign import environments_closed, in_one_line

HANGS = """
import threading, time
import gymnasium, numpy as np

class Stuck(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    def __init__(self, how="nap", at=70, deaf=False):
        self.how, self.at, self.deaf, self.steps = how, at, deaf, 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.steps += 1
        while self.steps == self.at:
            try:
                print("hangs", flush=True)
                if self.how == "nap": time.sleep(1e6)
                if self.how == "lock": threading.Lock().acquire() and threading.Event().wait()
                if self.how == "busy":
                    while True: pass
            except BaseException:
                if not self.deaf: raise
        return np.zeros(2, np.float32), 0.0, False, False, {}

gymnasium.register("Stuck-v0", Stuck, max_episode_steps=50)
"""
SMALL = ["--ppo.num-envs", "2", "--ppo.num-steps", "32", "--ppo.minibatch-size", "64", "--total-steps", "512"]


def end_of(process: subprocess.Popen[str]) -> str:
    """The last line that it says; it is killed if it does not end."""
    try:
        return process.communicate(timeout=60)[1].strip().splitlines()[-1]
    finally:
        process.kill()
        process.wait()


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "stuck.py").write_text(HANGS)
    command = [sys.executable, "-m", "rlhf_control", "pretrain", "stuck:Stuck-v0", "--out", str(folder / "run"), *SMALL]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parents[2])))}
    return subprocess.Popen(
        [*command, "--checkpoint-seconds", "0", *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", ["nap", "lock", "busy"])
def test_an_environment_that_hangs_is_named_and_what_is_saved_stays(how: str, tmp_path: Path) -> None:
    process = start(tmp_path, "--env", "how", how, "--env-timeout", "1")
    last = end_of(process)
    assert process.returncode == 2
    assert last.startswith("rlhf-control: environment 0 (seed ")
    assert "fails in step 20 of its episode 2: no answer for 1 s (" in last and "stuck.py:" in last
    assert f"go on with `rlhf-control resume {tmp_path / 'run'} --env-id stuck:Stuck-v0`" in last
    assert Run(tmp_path / "run").load_checkpoint()[0] == 2  # 70 steps are two iterations of 32, and some


@pytest.mark.parametrize("deaf", [False, True])
def test_the_first_sigterm_ends_one_that_hangs(deaf: bool, tmp_path: Path) -> None:
    process = start(tmp_path, "--env", "deaf", str(deaf))
    assert process.stdout is not None and process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGTERM)
    last = end_of(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert "environment 0 (seed " in last and "step 20 of its episode 2" in last and "rlhf-control resume" in last
    assert ("deaf to being interrupted" in last) == deaf
    assert Run(tmp_path / "run").load_checkpoint()[0] == 2


def test_one_that_is_deaf_ends_with_the_process(tmp_path: Path) -> None:
    process = start(tmp_path, "--env", "deaf", "True", "--env-timeout", "1")
    assert "deaf to being interrupted" in end_of(process) and process.returncode == 2
    assert Run(tmp_path / "run").load_checkpoint()[0] == 2


def test_making_one_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    @environments_closed()
    def make() -> None:
        WATCHDOG.limit = 1.0
        with in_one_line("cannot make it"):
            time.sleep(60)

    with pytest.raises(UserError, match="cannot make it: no answer for 1 s"):
        make()
    assert WATCHDOG.limit == 300.0 == PretrainConfig("CartPole-v1").env_timeout


def test_many_short_calls_are_no_long_one_and_nobody_is_interrupted_outside() -> None:
    with WATCHDOG.watching():
        WATCHDOG.limit = 0.5
        end = time.monotonic() + 1.6
        while time.monotonic() < end:
            WATCHDOG.enter("a call")
            time.sleep(0.01)
            WATCHDOG.leave()
        time.sleep(1.2)  # not inside of any
    signal.raise_signal(signal.SIGURG)  # a late one does nothing
