"""What Ray costs a sweep: short runs through it and through our own pool of processes, by turns, after start-up.

A turn starts a pool anew and warms it up, so that every process has imported what it needs, and then times the sweep
from its first run's start to its last one's end, folders on the caller's disk. Ray is not running while our own pool is
timed.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control.compute.threads import available_cores
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.progress import say
from rlhf_control.sweeps.on_ray import RayPool
from rlhf_control.sweeps.pool import LocalPool, RunCell, run_cells
from rlhf_control.train import pretrain

TASK, RUNS, STEPS = "HalfCheetah-v5", 16, 32_768
POOLS: dict[str, Callable[[], Any]] = {
    "our own pool": lambda: LocalPool(train),
    "Ray": lambda: RayPool(train, most=len(available_cores())),
}


def train(config: PretrainConfig) -> int:
    """Does one run of the sweep, in a process of a pool."""
    pretrain(config)
    return 0


def bench_sweep(config: BenchConfig) -> str:
    """Times both pools; returns the table, and writes the raw figures to `config.path()`."""
    say(f"{RUNS} runs of {STEPS:,} steps of {TASK} on {len(available_cores())} cores, {config.runs} turns of each pool")
    seconds: dict[str, list[float]] = {name: [] for name in POOLS}
    for _ in range(config.runs):
        for name, make_pool in POOLS.items():
            seconds[name].append(time_pool(make_pool))
            say(f"{name}: {seconds[name][-1]:.1f} s")
    result = {"command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(), "task": TASK, "runs": RUNS,
              "steps": STEPS, "seconds": seconds}  # fmt: skip
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(seconds)


def time_pool(make_pool: Callable[[], Any]) -> float:
    """Seconds of a sweep, once the pool is warm."""
    with TemporaryDirectory() as folder, make_pool() as pool:
        swept(pool, cells(Path(folder) / "warm", 2 * len(available_cores())))
        started = time.perf_counter()
        swept(pool, cells(Path(folder) / "timed", RUNS))
        return time.perf_counter() - started


def swept(pool: Any, runs: list[RunCell]) -> None:
    if failed := run_cells(pool, runs, lambda done, running, failed: None):
        raise UserError(f"the sweep could not be timed: {next(iter(failed.values()))}")


def cells(folder: Path, number: int) -> list[RunCell]:
    ppo = PPOConfig(num_envs=16, num_steps=128)
    return [
        RunCell(f"{folder.name}-{i}", PretrainConfig(TASK, total_steps=STEPS, seed=i, out=f"{folder}-{i}", ppo=ppo))
        for i in range(number)
    ]


def table(seconds: dict[str, list[float]]) -> str:
    """Markdown: median seconds, and the ratio of each turn."""
    ours = np.array(seconds["our own pool"])
    lines = [f"| {RUNS} runs of {STEPS:,} steps | s | x our own pool |", "|---|---:|---:|"]
    for name, of_pool in seconds.items():
        ratio = np.array(of_pool) / ours
        text = "" if name == "our own pool" else f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        lines.append(f"| {name} | {np.median(of_pool):.1f} | {text} |")
    return "\n".join(lines)
