"""Cores and threads: how many there are, and how many torch and BLAS may use."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Has torch and NumPy's BLAS use one thread: networks of this size are fastest so (two can be forty times slower on
    a busy machine), and the number of threads decides the last bits."""
    import torch  # here: who only counts cores does not wait for it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> list[int]:
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns what `work` makes of each item, in their order, by torch on as many cores as there are, each item on one
    thread: so the bits do not depend on the number of cores. Gradients are off in these threads only if `work` turns
    them off."""
    if len(items) < 2 or len(available_cores()) < 2:
        return [work(item) for item in items]
    first, *others = items
    later = [_workers().submit(work, item) for item in others]
    return [work(first), *(each.result() for each in later)]


@cache
def _workers() -> ThreadPoolExecutor:
    import torch

    others = max(1, len(available_cores()) - 1)  # beside the thread that asks
    return ThreadPoolExecutor(others, "torch", initializer=torch.set_num_threads, initargs=(1,))
