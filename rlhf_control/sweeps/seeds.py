"""Several seeds of one experiment side by side: a process and a core each, so that one crash stops no other."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from rlhf_control.compute.processes import safe_path
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.runs.files import open_own, read_own
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.runs.run import Run
from rlhf_control.wording import counted

POLL_SECONDS = 0.5
MOST, LARGEST = 1000, 2**31 - 1  # seeds
STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM)  # exit codes
Config = TypeVar("Config", PretrainConfig, FinetuneConfig)


def parse_seeds(text: str) -> list[int]:
    """ "0-4" or "0,3,7-9": sorted, each once. Raises UserError for anything else."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise UserError(f"seeds is '{text}'; write them as 0-4 or 0,3,7")
    if any(len(number) > len(str(LARGEST)) or int(number) > LARGEST for number in re.findall(r"\d+", text)):
        raise UserError(f"seeds is '{text}'; the largest seed is {LARGEST}")
    parts = [part.partition("-") for part in text.split(",")]
    ranges = [range(int(first), int(last or first) + 1) for first, _, last in parts]
    if sum(map(len, ranges)) > MOST:
        raise UserError(f"seeds is '{text}'; give {MOST} at most")
    seeds: set[int] = set().union(*ranges)
    if not seeds:
        raise UserError(f"seeds is '{text}', which holds none; write the smaller number first")
    return sorted(seeds)


def for_each_seed(config: Config, out: str) -> list[Config]:
    """The config of every seed in `config.seeds`, into the folder OUT-SEED."""
    return [replace(config, seed=seed, seeds="", out=f"{out.rstrip('/')}-{seed}") for seed in parse_seeds(config.seeds)]


def side_by_side(work: Callable[[Any], object], configs: Sequence[Config]) -> int:
    """Does `work(config)` for every config, as many at a time as there are cores. Returns 0, or 1 if any failed.

    A process each rather than networks stacked in one: the physics needs a core a seed anyway, and a seed is the same
    to the bit as it is alone. What a process writes goes to OUT.log, which stays where it failed. SIGINT and SIGTERM
    are passed on once, for each to save.
    """
    waiting, failed = list(configs), False
    running: dict[int, tuple[Config, BaseProcess]] = {}  # by core
    stopping = False
    with ExitStack() as stack:
        caught = stack.enter_context(deferred_signals())
        progress = stack.enter_context(ProgressLine(counted(len(configs), "seed"), sum(c.total_steps for c in configs)))
        while running or (waiting and not caught):
            for core in available_cores():
                if waiting and not caught and core not in running:
                    config = waiting.pop(0)
                    running[core] = config, _start(work, config, core)
            if caught and not stopping:
                stopping = True
                for _, process in running.values():
                    process.terminate()
            time.sleep(POLL_SECONDS)
            for core, (config, process) in list(running.items()):
                if not process.is_alive():
                    del running[core]
                    failed |= not _ended_well(config, process, stopping)
            if rows := [row for config in configs if (row := Run(Path(config.out)).last_metrics())]:
                returns = [row["env_return"] for row in rows if row.get("env_return") is not None]
                mean = sum(returns) / len(returns) if returns else None
                progress.show({"env_steps": sum(row["env_steps"] for row in rows), "env_return": mean})
    if caught:
        raise Stopped(caught[0], "give the same command again to go on")
    return int(failed)


def _start(work: Callable[[Any], object], config: Config, core: int) -> BaseProcess:
    log = Path(f"{config.out}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open_own(log, "wb"):  # refuses what is not ours where that can be said
        pass
    process = get_context("spawn").Process(target=_alone, args=(work, config, core, str(log)))
    with safe_path():
        process.start()
    return process


def _ended_well(config: Config, process: BaseProcess, stopping: bool) -> bool:
    """Whether this seed's process did its work, or stopped because it was told to; says what failed."""
    process.join()
    if process.exitcode == 0 or (stopping and process.exitcode in STOPPED):
        Path(f"{config.out}.log").unlink(missing_ok=True)
        return True
    print(f"rlhf-control: seed {config.seed} failed: {_reason(process.exitcode, config.out)}", file=sys.stderr)
    return False


def _alone(work: Callable[[Any], object], config: Config, core: int, log: str) -> None:
    """One seed, in a process, a session (Ctrl-C reaches the parent alone) and on a core of its own."""
    with suppress(OSError):
        os.setsid()
    threading.Thread(target=follow_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    with open_own(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(work(config))  # type: ignore[arg-type]


def follow_parent() -> None:
    """Saves and stops when the parent is gone, however it went."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _reason(exitcode: int | None, out: str) -> str:
    """Why a seed's process ended: the signal that killed it, before which it cannot have said anything about it; else
    its last line, of our own if there is one."""
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):  # a signal without a name
            name = signal.Signals(-exitcode).name
            memory = "; if nobody did that, the machine may lack memory" if name == "SIGKILL" else ""
            return f"killed by {name}{memory} (see {out}.log)"
        return f"killed by signal {-exitcode} (see {out}.log)"
    lines: list[str] = []
    with suppress(OSError):
        lines = read_own(f"{out}.log").decode(errors="replace").strip().splitlines()
    ours = [line for line in lines if line.startswith("rlhf-control: ")] if exitcode != 1 else []  # 1: a traceback
    last = (ours or lines or [f"exit code {exitcode}, and not a word"])[-1].removeprefix("rlhf-control: ")
    return f"{last} (see {out}.log)"
