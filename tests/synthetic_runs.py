"""Run folders with made-up metrics, for the tests of curves and plots."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.config import FinetuneConfig
from rlhf_control.runs.run import Run

ONE = FinetuneConfig("halfcheetah", oracle="backward", labels=100)


def make_run(
    path: Path, config: Any, values: dict[str, list[float | None]], steps: int = 100, env_id: str = "HalfCheetah-v5"
) -> Path:
    """A run's folder whose metrics are `values`, a row each `steps` env steps."""
    verb = "finetune" if isinstance(config, FinetuneConfig) else "pretrain"
    run = Run(path)
    run.write_json("config.json", {"verb": verb, "config": asdict(config)})
    run.write_json("manifest.json", {"verb": verb, "seed": config.seed, "env_id": env_id})
    for i in range(max(map(len, values.values()))):
        row = {name: column[i] for name, column in values.items() if i < len(column)}
        run.log({"iteration": i, "env_steps": (i + 1) * steps, "wall_seconds": 0.5 * i, **row})
    return path


def finetuning(path: Path, config: FinetuneConfig = ONE, iterations: int = 12, **more: list[float | None]) -> Path:
    """A run with everything that a fine-tuning run reports; rounds at rows 0, 3 and 6."""
    rng = np.random.default_rng(config.seed)
    i = np.arange(iterations)
    asked = {0: 20, 3: 60, 6: 100}
    values: dict[str, list[float | None]] = {
        "score": list(i + rng.normal(0, 0.1, iterations)),
        "env_return": [float(-100 * k) if k % 2 else None for k in i],
        "labels": [float(max(n for at, n in asked.items() if at <= k)) for k in i],
        "kl_start": list(0.1 * i),
        "beta": [0.02] * iterations,
        "reward/heldout_accuracy": [0.6 + k / 20 if k in asked else None for k in i],
        "reward/fresh_accuracy": [0.4 + k / 20 if k in asked and k else None for k in i],
    }
    return make_run(path, config, values | more)
