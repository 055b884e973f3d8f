"""Options of the commands that make many runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rlhf_control.config.checks import POSITIONAL, explained, typed


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

    def __post_init__(self) -> None:
        typed(self)

    def folder(self) -> str:
        """Returns where the runs' folders lie."""
        return self.out or f"runs/{Path(self.file).stem}"
