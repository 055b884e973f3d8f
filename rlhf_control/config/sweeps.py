"""Options of the commands that make many runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rlhf_control.config.checks import POSITIONAL, explained, typed, within

MOST_WORKERS = 10_000


@explained
@dataclass(frozen=True)
class SweepConfig:
    """Make many runs: seeds x tasks x methods, on this machine's cores or on a Ray cluster.

    Given again, goes on: what is finished stays, what is half done is gone on with.
    """

    file: Annotated[str, POSITIONAL]
    """A TOML file with the keys command (pretrain or finetune), seeds (as 0-4), metric, and the tables options (of all
    runs, as on the command line), tasks.NAME and methods.NAME (of some). Or a Python file, which is run, with a list,
    dictionary or function `runs` that gives configs."""
    out: str = ""
    """The folder of the runs' folders, of summary.json and summary.md (default: runs/FILE)."""
    ray: bool = False
    """Through Ray, which is started on this machine (`pip install 'rlhf_control[ray]'`)."""
    address: str = ""
    """Through the Ray cluster at HOST:PORT, or auto. All nodes need this version of rlhf_control, and no common file
    system: what the options name below the current folder travels there, and the runs' folders come back."""
    workers: int = 0
    """Runs side by side (default: one for each core)."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "workers", low=0, high=MOST_WORKERS)

    def folder(self) -> str:
        """Returns where the runs' folders lie."""
        return self.out or f"runs/{Path(self.file).stem}"


@explained
@dataclass(frozen=True)
class TuneConfig:
    """Search hyperparameters and architectures of PPO and the reward model by Optuna.

    That comes with `pip install 'rlhf_control[tune]'`. Given again, it goes on. It leaves preset.toml (for `pretrain`
    or `finetune --preset FILE`, or `sweep FILE`), report.md and figures.
    """

    what: Annotated[str, POSITIONAL]
    """A Gymnasium id, for `pretrain`; or a TOML file with command (pretrain or finetune), metric and the tables options
    (of all runs, as on the command line) and space (option = [choices] or {low = 1e-4, high = 1e-2, log = true};
    default: config/search_space.py)."""
    trials: int = 30
    """Runs in all, those of earlier calls included."""
    total_steps: int = 0
    """Of a run (default: the file's, or as in `pretrain`)."""
    seed: int = 0
    """Of the search; the n-th run has seed + n."""
    prune: bool = True
    """Stop runs whose learning curve is below the median of the others at the same share of their steps."""
    out: str = ""
    """The folder (default: runs/tune-WHAT)."""
    ray: bool = False
    """Through Ray, as in `sweep`."""
    address: str = ""
    """Through a Ray cluster, as in `sweep`."""
    workers: int = 0
    """Runs side by side (default: one for each core)."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "trials", low=1, high=1e6)
        within(self, "total_steps", "seed", low=0, high=2**31 - 1)
        within(self, "workers", low=0, high=MOST_WORKERS)

    def folder(self) -> str:
        """Returns where the study and the runs' folders lie."""
        return self.out or f"runs/tune-{Path(self.what).stem if self.what.endswith('.toml') else self.what}"
