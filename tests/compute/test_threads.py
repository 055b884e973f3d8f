import os
import threading

import pytest
import torch

from rlhf_control.compute.threads import available_cores, one_thread, side_by_side


def test_within_it_torch_has_one_thread_and_then_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_cores_are_those_that_the_process_may_use() -> None:
    assert available_cores() == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_side_by_side_keeps_the_order_and_gives_each_item_one_thread(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_control.compute.threads.available_cores", lambda: list(range(cores)))
    found = side_by_side(lambda x: (2 * x, torch.get_num_threads(), threading.get_ident()), [3, 1, 2])
    assert [x for x, _, _ in found] == [6, 2, 4]
    assert all(threads == 1 for _, threads, thread in found if thread != threading.get_ident())
    assert (len({thread for _, _, thread in found}) > 1) == (cores > 1)
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 / x, [1, 0])
