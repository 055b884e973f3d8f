import io
import os
import signal
from typing import Any

import numpy as np
import pytest

from rlhf_control.simulation.atari.games import read, write
from rlhf_control.simulation.atari.vector import AtariVectorEnv


def test_messages_carry_plain_values_and_arrays() -> None:
    pipe = io.BytesIO()
    write(pipe, {"order": "step", "seeds": [[0, 2**70]], "a": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 3))})
    pipe.seek(0)
    message = read(pipe)
    assert message is not None and message["order"] == "step" and message["seeds"] == [[0, 2**70]]
    np.testing.assert_array_equal(message["a"], np.arange(6.0).reshape(2, 3))
    assert message["none"].shape == (0, 3)
    whole = pipe.getvalue()
    for length in (0, 2, 20, len(whole) - 1):
        assert read(io.BytesIO(whole[:length])) is None


def test_a_process_that_dies_is_named() -> None:
    envs = AtariVectorEnv("ALE/Pong-v5", 2, num_processes=1)
    envs.reset(seed=0)
    games: Any = envs._games[0]
    os.kill(games._process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="the process that plays pong ended, with signal 9"):
        for _ in range(3):
            envs.step(np.zeros(2, np.int64))
    envs.close()
