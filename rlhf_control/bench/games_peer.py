"""One vector environment, kept warm for `games.py` to time: ours, or a peer with the same picture on one thread.

A script of its own, because peers need interpreters of their own: it imports nothing of this project but for ours.
Every line on stdin asks for a run of that many seconds; the answer is a line of JSON.

python games_peer.py NAME NUM_ENVS
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

AHEAD = 64  # rows of random actions, drawn before they are timed
Step = Callable[[Any], Any]  # actions (n,)
Made = tuple[Step, int, Any, str]  # step, number of actions, their dtype, version


def ours(name: str, n: int) -> Made:
    from envs import GAMES

    game, view = name.split("-")
    envs = GAMES[f"rlhf/{game.capitalize()}-v0"](n, obs=view)
    envs.reset(seed=0)
    return envs.step, len(envs.game.actions), np.int64, version("rlhf_control")


def turbo(name: str, n: int) -> Made:
    """Breakout, which resets nothing by itself."""
    import gymnasium

    package = "env-breakoutatari2600-turbo-native"
    envs: Any = gymnasium.make_vec(
        "env_breakoutatari2600_turbo_native:EnvBreakoutAtari2600TurboNative-v0", game="Breakout-Atari2600-v0",
        num_envs=n, num_threads=1, frame_skip=4, frame_stack=4, obs_resize=(84, 84),
    )  # fmt: skip
    envs.reset(seed=0)

    def step(actions: Any) -> None:
        _, _, terminated, truncated, _ = envs.step(actions)
        ended = terminated | truncated
        if ended.any():
            envs.reset(options={"reset_mask": ended})

    return step, 4, np.uint8, version(package)


def ale(name: str, n: int) -> Made:
    from ale_py.vector_env import AtariVectorEnv

    envs = AtariVectorEnv("breakout", num_envs=n, num_threads=1)
    envs.reset(seed=0)
    return envs.step, 4, np.int64, version("ale-py")


PEERS = {"turbo": turbo, "ale": ale}


def main() -> None:
    name, n = sys.argv[1], int(sys.argv[2])
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not for us
    step, choices, dtype, known = PEERS.get(name, ours)(name, n)
    rows = np.random.default_rng(0).integers(choices, size=(AHEAD, n)).astype(dtype)
    for row in rows:
        step(row)
    print(json.dumps({"version": known}), file=out, flush=True)
    for line in sys.stdin:
        steps, started = 0, time.process_time()  # of all threads of this process
        while (seconds := time.process_time() - started) < float(line):
            for row in rows[: AHEAD if name not in PEERS else 8]:
                step(row)
                steps += n
        print(json.dumps({"seconds": seconds, "steps": steps}), file=out, flush=True)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path.pop(0)  # this file's folder, whose modules are no packages
    main()
