import os

import torch

from rlhf_control.compute.threads import available_cores, one_thread


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
