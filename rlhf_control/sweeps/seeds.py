"""Several seeds of one experiment side by side."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.sweeps.pool import LocalPool, RunCell, run_cells
from rlhf_control.wording import counted

MOST, LARGEST = 1000, 2**31 - 1  # seeds
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
    """Does `work(config)` for every config, as `pool.run_cells` does. Returns 0, or 1 if any failed."""
    cells = [RunCell(f"seed {config.seed}", config) for config in configs]
    line = ProgressLine(counted(len(cells), "seed"), sum(config.total_steps for config in configs))
    with line, LocalPool(work) as pool:

        def show(*_: int) -> None:
            if rows := [row for cell in cells if (row := pool.last_row(cell))]:
                returns = [row["env_return"] for row in rows if row.get("env_return") is not None]
                mean = sum(returns) / len(returns) if returns else None
                line.show({"env_steps": sum(row["env_steps"] for row in rows), "env_return": mean})

        return int(bool(run_cells(pool, cells, show)))
