"""The signals that a run defers, and what it notes of its machine."""

import os
import signal

import pytest

from rlhf_control.runs.machine import deferred_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_loop(signum: int) -> None:
    before = signal.getsignal(signum)
    with deferred_signals() as caught:
        os.kill(os.getpid(), signum)
        assert caught == [signum]
    assert signal.getsignal(signum) == before


def test_the_second_signal_exits_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
