"""Comparisons that other people's programs kept, as the arrays that `feedback.export.import_pairs` takes.

B-Pref      the arrays buffer_seg1 and buffer_seg2 (Q, L, O + A) and buffer_label (Q, 1) of its reward model (0: the
            first is preferred, 1: the second, -1: equal), as `numpy.savez` or `torch.save` of a dict of tensors wrote
            them; the rows from buffer_index on, where that is given and not buffer_full, were never filled
imitation   what PreferenceDataset.save (1.0.1) wrote: a pickle of fragments and preferences. It is read as data, by an
            allow list of names, and nothing of it is run
our own     an .npz with the arrays' own names

Q pairs, L segment length, O observation, A action.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import Array
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.interop.pickles import NUMPY, Record, as_array, read_pickle
from rlhf_control.runs.files import read_own
from rlhf_control.runs.npz import read_npz
from rlhf_control.spaces import Spaces

BPREF = ("buffer_seg1", "buffer_seg2", "buffer_label")
IMITATION = NUMPY | {
    "imitation.algorithms.preference_comparisons PreferenceDataset", "imitation.data.types Trajectory",
    "imitation.data.types TrajectoryWithRew",
}  # fmt: skip
BPREF_LABELS = {0.0: 1.0, 1.0: 0.0, -1.0: 0.5}  # theirs -> ours: 1 where the first is preferred


def load_pairs(path: str | Path, spaces: Spaces | None) -> Mapping[str, Array]:
    """Reads comparisons from a file of any of the formats. `spaces` are those of the run that they are for: B-Pref's
    arrays are split by them, and imitation's actions carried out. Raises UserError for anything else."""
    try:
        content = read_own(path, follow=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if content.startswith(b"\x80"):
        return _imitation(content, path, spaces)
    arrays = _torch(content, path) if b"data.pkl" in content[:200] else read_npz(content, path)
    return _bpref(arrays, path, spaces) if set(BPREF) & arrays.keys() else arrays


def _torch(content: bytes, path: str | Path) -> dict[str, Array]:
    from torch import Tensor

    from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, read_torch

    try:
        found = read_torch(content)
        if not isinstance(found, Mapping):
            raise ValueError("it holds no dict of tensors")
        return {str(k): v.numpy() if isinstance(v, Tensor) else np.asarray(v) for k, v in found.items()}
    except UNREADABLE as error:
        raise cannot_read(path, "pairs of B-Pref", error) from None


def _bpref(arrays: Mapping[str, Array], path: str | Path, spaces: Spaces | None) -> dict[str, Array]:
    if lacking := [name for name in BPREF if name not in arrays]:
        raise UserError(f"{path} has arrays of B-Pref but lacks {', '.join(lacking)}; save all three")
    if spaces is None:
        raise UserError(
            f"{path} keeps observations and actions side by side, as B-Pref does, and a store alone does not say how "
            "long either is; load it into a run's folder"
        )
    filled = len(arrays["buffer_label"])
    if "buffer_index" in arrays and not bool(arrays.get("buffer_full", False)):
        filled = int(arrays["buffer_index"])
    first, second, label = (arrays[name][:filled] for name in BPREF)
    wide = spaces.obs_size + spaces.executed_size
    if first.shape != second.shape or first.ndim != 3 or first.shape[-1] != wide:
        raise UserError(
            f"{path} has buffer_seg1 {first.shape} and buffer_seg2 {second.shape}; the run's environment has "
            f"observations of {spaces.obs_size} and actions of {spaces.executed_size} numbers, so (pairs, steps, "
            f"{wide})"
        )
    said = label.reshape(filled).astype(np.float64)
    if unknown := sorted(set(said.tolist()) - BPREF_LABELS.keys()):
        raise UserError(f"{path} has a label {unknown[0]:g}; B-Pref's are 0, 1 and -1 (equal)")
    arrays = {"label": np.array([BPREF_LABELS[y] for y in said.tolist()])}
    for side, both in (("1", first), ("2", second)):
        arrays |= {f"obs_{side}": both[..., : spaces.obs_size], f"action_{side}": both[..., spaces.obs_size :]}
    return arrays


def _imitation(content: bytes, path: str | Path, spaces: Spaces | None) -> dict[str, Array]:
    try:
        found = read_pickle(content, IMITATION)
        kept = _state(found, "PreferenceDataset")
        sides = {
            side: [_state(f, "Trajectory", "TrajectoryWithRew") for f in kept[f"fragments{side}"]] for side in "12"
        }
        arrays = {"label": as_array(kept["preferences"])}
        for side, fragments in sides.items():
            arrays[f"obs_{side}"] = _stack(fragments, "obs")
            arrays[f"action_{side}"] = _actions(_stack(fragments, "acts"), spaces)
            if all("rews" in fragment for fragment in fragments):
                arrays[f"reward_{side}"] = _stack(fragments, "rews")
        for side in "12":
            obs = arrays[f"obs_{side}"]
            arrays[f"obs_{side}"] = obs.reshape(*obs.shape[:2], -1)
        return arrays
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CorruptFileError(
            f"{path} is a pickle, of which only what imitation's PreferenceDataset.save wrote is read: {error}"
        ) from None


def _state(found: Any, *names: str) -> dict[str, Any]:
    """The attributes of one of imitation's objects."""
    if not isinstance(found, Record) or found.name.rpartition(".")[2] not in names:
        raise ValueError(f"{getattr(found, 'name', '') or type(found).__name__} where a {names[0]} belongs")
    return dict(found.state)


def _stack(fragments: list[dict[str, Any]], name: str) -> Array:
    values = [as_array(fragment[name]) for fragment in fragments]
    if len({value.shape for value in values}) != 1:
        raise ValueError(f"{name} of {len({value.shape for value in values})} shapes; fragments must be of one length")
    return np.stack(values)


def _actions(actions: Array, spaces: Spaces | None) -> Array:
    """(Q, L, A) as carried out, of actions (Q, L, ...) as imitation was given them."""
    flat = actions.reshape(*actions.shape[:2], -1)
    if spaces is None:
        if actions.ndim == 2:
            raise ValueError("choices, and a store alone does not say of how many; load it into a run's folder")
        return flat
    own = len(spaces.choices) or spaces.executed_size
    if flat.shape[-1] != own:
        raise ValueError(f"actions of {flat.shape[-1]} numbers, the run's environment has {own}")
    steps = flat.reshape(-1, own)
    return spaces.execute(steps.astype(np.int64 if spaces.choices else np.float32)).reshape(*flat.shape[:2], -1)
