import threading
import time

import pytest

from rlhf_control.viewer.kit.worker import Worker


def wait(worker: Worker, *names: str) -> list[tuple[str, object, object]]:
    found: list[tuple[str, object, object]] = []
    end = time.monotonic() + 10
    while worker.doing(*names) and time.monotonic() < end:
        found += [(r.name, r.value, r.error) for r in worker.results()]
        time.sleep(0.001)
    return found


def test_work_is_done_in_order_in_another_thread() -> None:
    woken = []
    worker = Worker(lambda: woken.append(threading.current_thread()))
    here = threading.current_thread()
    for i in range(3):
        worker.do("add", lambda i=i: (i + 1, threading.current_thread() is here))
    assert worker.doing("add") and not worker.doing("vote")
    assert wait(worker, "add") == [("add", (i + 1, False), None) for i in range(3)]
    assert len(woken) == 3 and here not in woken
    assert worker.close(5)


def test_an_error_is_a_result() -> None:
    worker = Worker()
    worker.do("divide", lambda a, b: a / b, 1, 0)
    worker.do("divide", lambda a, b: a / b, 1, 2)
    (first, second) = wait(worker, "divide")
    assert isinstance(first[2], ZeroDivisionError) and second == ("divide", 0.5, None)
    worker.close(5)


def test_closing_waits_for_what_is_under_way() -> None:
    worker, done = Worker(), []
    worker.do("slow", lambda: (time.sleep(0.1), done.append(1)))
    assert worker.close(5) and done == [1]
    stuck = threading.Event()
    worker = Worker()
    worker.do("stuck", stuck.wait)
    assert not worker.close(0.05)  # but no longer than it is told
    stuck.set()


@pytest.mark.parametrize("n", [100])
def test_nothing_is_lost(n: int) -> None:
    worker = Worker()
    for i in range(n):
        worker.do("count", lambda i=i: i)
    assert [value for _, value, _ in wait(worker, "count")] == list(range(n))
    worker.close(5)
