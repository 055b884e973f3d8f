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

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.progress import ProgressLine
from rlhf_control.runs import Run, deferred_signals

POLL_SECONDS = 0.5
STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM)  # exit codes
Config = TypeVar("Config", PretrainConfig, FinetuneConfig)


def parse_seeds(text: str) -> list[int]:
    """ "0-4" or "0,3,7-9": sorted, each once. Raises UserError for anything else."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise UserError(f"seeds is '{text}'; write them as 0-4 or 0,3,7")
    seeds: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds |= set(range(int(first), int(last or first) + 1))
    if not seeds:
        raise UserError(f"seeds is '{text}', which holds none; write the smaller number first")
    return sorted(seeds)


def for_each_seed(config: Config, out: str) -> list[Config]:
    """The config of every seed in `config.seeds`, into the folder OUT-SEED."""
    return [replace(config, seed=seed, seeds="", out=f"{out.rstrip('/')}-{seed}") for seed in parse_seeds(config.seeds)]


def side_by_side(work: Callable[[Any], object], configs: Sequence[Config]) -> int:
    """Does `work(config)` for every config, as many at a time as there are cores. Returns 0, or 1 if any failed.

    Measured against stacking the seeds' networks in one process: the physics takes most of the time and needs a core
    a seed anyway. What a process writes goes to OUT.log. SIGINT and SIGTERM are passed on once, for each to save.
    """
    context = get_context("spawn")
    waiting, failed = list(configs), []
    running: dict[int, tuple[Any, int]] = {}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    passed_on = False
    with ExitStack() as stack:
        caught = stack.enter_context(deferred_signals())
        progress = stack.enter_context(ProgressLine(f"{len(configs)} seeds", sum(c.total_steps for c in configs)))
        while running or (waiting and not caught):
            while waiting and not caught and len(running) < len(cores):
                config = waiting.pop(0)
                core = next(c for c in cores if c not in [used for _, used in running.values()])
                log = Path(f"{config.out}.log")
                log.parent.mkdir(parents=True, exist_ok=True)
                process = context.Process(target=_alone, args=(work, config, core, str(log)))
                process.start()
                running[config.seed] = process, core
            if caught and not passed_on:
                passed_on = True
                _terminate([process for process, _ in running.values()])
            time.sleep(POLL_SECONDS)
            for seed, (process, _) in list(running.items()):
                if not process.is_alive():
                    process.join()
                    del running[seed]
                    config = next(c for c in configs if c.seed == seed)
                    if process.exitcode in STOPPED and passed_on:
                        continue
                    if process.exitcode:
                        failed.append(seed)
                        print(f"rlhf-control: seed {seed} failed: {_last_words(config.out)}", file=sys.stderr)
                    else:
                        Path(f"{config.out}.log").unlink(missing_ok=True)
            if rows := [row for config in configs if (row := _last_row(config.out))]:
                returns = [row["env_return"] for row in rows if row.get("env_return") is not None]
                mean = sum(returns) / len(returns) if returns else None
                progress.show({"env_steps": sum(row["env_steps"] for row in rows), "env_return": mean})
    if caught:
        raise Stopped(caught[0], "give the same command again to go on")
    return 1 if failed else 0


def _alone(work: Callable[[Any], object], config: Config, core: int, log: str) -> None:
    """One seed, in a process, a session (Ctrl-C reaches the parent alone) and on a core of its own."""
    with suppress(OSError):
        os.setsid()
    threading.Thread(target=_follow_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.exit(work(config))  # type: ignore[arg-type]


def _follow_parent() -> None:
    """Saves and stops when the parent is gone, however it went."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _terminate(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()


def _last_row(out: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = []
    with suppress(UserError, OSError):
        rows = Run(Path(out)).metrics()
    return rows[-1] if rows else None


def _last_words(out: str) -> str:
    lines = Path(f"{out}.log").read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('rlhf-control: ') if lines else 'killed'} (see {out}.log)"
