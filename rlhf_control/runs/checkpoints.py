"""A run's checkpoints on the disk: RUN/checkpoints/ITERATION.npz, of which the newest whole one counts."""

import sys
from pathlib import Path
from typing import Any

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.files import ForeignFileError, load_state


def checkpoint_path(run: Path, iteration: int) -> Path:
    """Returns where the state before this iteration is kept."""
    return checkpoint_folder(run) / f"{iteration:08d}.npz"


def checkpoints_of(run: Path) -> list[Path]:
    """Lists a run's checkpoints, the newest first."""
    return sorted(checkpoint_folder(run).glob("[0-9]" * 8 + ".npz"), reverse=True)


def checkpoint_folder(run: Path) -> Path:
    """Returns the folder, which must be the run's own: old checkpoints are removed from it."""
    folder = run / "checkpoints"
    if folder.is_symlink():
        raise ForeignFileError(folder, "a symbolic link")
    return folder


def newest(run: Path) -> tuple[int, dict[str, Any]]:
    """Loads (iteration, state) of the newest whole checkpoint. Damaged ones are passed over with a word; (0, {}) if
    there are none. Raises UserError if all are damaged."""
    paths = checkpoints_of(run)
    if not paths:
        return 0, {}
    for path in paths:
        try:
            state = load_state(path)
            if "wall_seconds" not in state:
                raise CorruptFileError(f"{path} is not a checkpoint")
            if (iteration := state.get("left", {}).get("iteration", int(path.stem))) != int(path.stem):
                raise CorruptFileError(f"{path} is the checkpoint of iteration {iteration}, under another name")
        except CorruptFileError as error:
            print(f"rlhf-control: {error}; trying the one before", file=sys.stderr)
            continue
        return int(path.stem), state
    raise UserError(f"{run} has no whole checkpoint to go on from; start the run again")
