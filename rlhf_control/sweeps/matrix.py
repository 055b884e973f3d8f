"""Which runs a sweep consists of: seeds x tasks x methods, from a TOML file, or configs from a Python file.

    command = "finetune"        # or pretrain
    seeds = "0-4"               # as in --seeds
    metric = "score"            # of metrics.jsonl, for the table
    [options]                   # of all runs, as on the command line
    policy = "halfcheetah"
    ppo.lr = 1e-4
    [tasks.jump]                # and of some
    oracle = "jump"
    [methods.uniform]
    queries = "uniform"

A Python file has a variable `runs`, or a function of that name, that gives configs: a list, or a dictionary with the
names "TASK/METHOD" or "TASK" for them.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.options import merged, read_toml
from rlhf_control.config.requests import CONFIGS, config_of
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.sweeps.pool import RunCell
from rlhf_control.sweeps.seeds import parse_seeds

KEYS = ("command", "seeds", "metric", "options", "tasks", "methods")
NAME = r"[A-Za-z0-9_+=][\w.+=-]*"  # of a task or a method, and so of a folder


@dataclass(frozen=True)
class Matrix:
    """Holds the runs of a sweep, and the metric that its table is about ("": the score, or the return)."""

    cells: list[RunCell]
    metric: str = ""


def read_matrix(path: str, out: str, begin: Callable[[Any], Any] | None = None) -> Matrix:
    """Reads a sweep file; the runs' folders lie in `out`; `begin`: as in `config_of`. Runs the file if it is Python.
    Raises UserError, with the file's name, for all that is wrong with it."""
    if not path.endswith((".toml", ".py")):
        raise UserError(f"{path} is neither TOML nor Python; name a file such as sweep.toml")
    try:
        matrix = _of_python(path, out) if path.endswith(".py") else _of_toml(read_toml(path), out, begin)
    except UserError as error:
        raise error if str(error).startswith(("cannot read", path)) else UserError(f"{path}: {error}") from None
    if not matrix.cells:
        raise UserError(f"{path} has no runs; give it at least one")
    names: set[str] = set()
    for cell in matrix.cells:
        if cell.name in names:
            raise UserError(f"{path}: two runs are called {cell.name}; name their tasks or methods apart")
        names.add(cell.name)
        if isinstance(cell.config, FinetuneConfig) and cell.config.asks_people():
            raise UserError(f"{path}: {cell.name} asks people, who cannot answer several runs at once; use an oracle")
    return matrix


def _of_toml(file: Mapping[str, Any], out: str, begin: Callable[[Any], Any] | None) -> Matrix:
    for key in file:
        if key not in KEYS:
            raise unknown_name("key", key, KEYS)
    if "command" not in file:
        raise UserError("command is missing; write command = 'finetune' or command = 'pretrain'")
    command = file["command"]
    if command not in CONFIGS:
        raise unknown_name("command", str(command), CONFIGS)
    tables = {key: _table(file, key) for key in ("options", "tasks", "methods")}
    seeds, metric = file.get("seeds", "0"), file.get("metric", "")
    if not isinstance(metric, str):
        raise UserError(f"metric is {metric!r}; it is the name of one, such as 'score'")
    cells = []
    for task, of_task in (tables["tasks"] or {"": {}}).items():
        for method, of_method in (tables["methods"] or {"": {}}).items():
            where = "/".join(filter(None, (task, method)))
            try:
                for name, options in (("task", of_task), ("method", of_method)):
                    if not isinstance(options, Mapping):
                        raise UserError(f"the {name} is {options!r}; it is a table of options")
                config = config_of(command, merged(merged(tables["options"], of_task), of_method), begin)
                _refuse_seed(config)
            except UserError as error:
                raise UserError(f"{where}: {error}" if where else str(error)) from None
            cells += _cells(task, method, config, parse_seeds(str(seeds)), out)
    return Matrix(cells, metric)


def _table(file: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = file.get(key, {})
    if not isinstance(table, Mapping):
        raise UserError(f"{key} is {table!r}; it is a table, [{key}]")
    return table


def _refuse_seed(config: PretrainConfig | FinetuneConfig) -> None:
    if config.seed or config.seeds:
        raise UserError("the seed is an option; write seeds = '0-4' at the top of the file")
    if config.out:
        raise UserError("out is an option; every run has its folder in the sweep's, which --out names")


def _of_python(path: str, out: str) -> Matrix:
    """Runs the file, which the user has named to be run, and takes what it gives."""
    runs = getattr(_module(path), "runs", None)
    try:
        runs = runs() if callable(runs) else runs
    except Exception as error:
        raise UserError(f"runs() failed: {type(error).__name__}: {error}") from error
    if isinstance(runs, list | tuple):
        runs = {f"{i:03}": config for i, config in enumerate(runs)}
    if not isinstance(runs, Mapping):
        raise UserError("it has no list, dictionary or function `runs` that gives configs")
    cells = []
    for name, config in runs.items():
        if not isinstance(config, PretrainConfig | FinetuneConfig):
            raise UserError(f"{name} is a {type(config).__name__}; give a PretrainConfig or a FinetuneConfig")
        task, _, method = str(name).partition("/")
        seeds = parse_seeds(config.seeds) if config.seeds else [config.seed]
        cells += _cells(task, method, config, seeds, out)
    return Matrix(cells)


def _module(path: str) -> Any:
    key = f"rlhf_control_sweep_{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise UserError(f"cannot read {path}: No such file or directory") from None
    except Exception as error:
        raise error if isinstance(error, UserError) else UserError(f"{type(error).__name__}: {error}") from error
    return module


def _cells(
    task: str, method: str, config: PretrainConfig | FinetuneConfig, seeds: list[int], out: str
) -> list[RunCell]:
    """A run for each seed, in the folder OUT/TASK-METHOD-SEED."""
    for name in filter(None, (task, method)):
        if not re.fullmatch(NAME, name):
            raise UserError(f"'{name}' cannot be a folder's name; use letters, digits, and . _ + = -")
    cells = []
    for seed in seeds:
        name = "-".join(filter(None, (task or ("" if method else "run"), method, str(seed))))
        of_seed = replace(config, seed=seed, seeds="", out=str(Path(out) / name))
        cells.append(RunCell(name, of_seed, task, method))
    return cells
