"""Recordings: what a person did in an environment, as a sealed .npz file that `--demonstrations` takes.

T time, S segments, L segment length, O observation, A action, D simulator state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.wording import counted

KIND = "recording"  # what the file says it is
ARRAYS = {  # name -> (type, dimensions)
    "obs": (np.number, 2),
    "action": (np.float32, 2),
    "next_obs": (np.number, 2),
    "env_reward": (np.float32, 1),
    "terminated": (np.bool_, 1),
    "truncated": (np.bool_, 1),
    "state": (np.float64, 2),
    "frames": (np.bytes_, 1),
}
MAY_LACK = ("state", "frames")


@dataclass(frozen=True)
class Recording:
    """Holds one episode or several, end to end. Each ends at a step that is terminated or truncated, and so does the
    last: where the person stopped, the episode was cut off."""

    env_id: str
    env: dict[str, Any]  # arguments of `gymnasium.make`
    obs: Array  # (T, O) raw, in the dtype of the space
    action: Array  # (T, A) float32: as carried out (clipped, or one-hot)
    next_obs: Array  # (T, O): the true successor, also where the episode ended
    env_reward: Array  # (T,) float32
    terminated: Array  # (T,) bool: the task ended
    truncated: Array  # (T,) bool: cut off by the time limit or by the person
    state: Array | None = None  # (T, D) float64: simulator state at `obs`
    frames: Array | None = None  # (T,) bytes: small PNGs of what is at `obs`, as in Segments; where there is no state

    def __len__(self) -> int:
        return len(self.obs)

    def episodes(self) -> list[slice]:
        """Returns the steps of each episode."""
        ends = [0, *(np.flatnonzero(self.terminated | self.truncated) + 1).tolist()]
        return [slice(start, stop) for start, stop in pairwise(ends)]


def join(recordings: Sequence[Recording]) -> Recording:
    """Joins recordings of one environment, end to end."""
    first = recordings[0]
    arrays = {name: [getattr(r, name) for r in recordings] for name in ARRAYS if getattr(first, name) is not None}
    arrays = {name: widened(parts) if name == "state" else parts for name, parts in arrays.items()}
    return Recording(first.env_id, first.env, **{name: np.concatenate(parts) for name, parts in arrays.items()})


def save_recording(path: str | Path, recording: Recording) -> None:
    """Writes one sealed file; what stood there before is untouched unless all of it is on the disk."""
    values = {f.name: value for f in fields(recording) if (value := getattr(recording, f.name)) is not None}
    save_state(path, {"kind": KIND, **values})


def load_recording(path: str | Path, env_id: str = "", sizes: tuple[int, int] | None = None) -> Recording:
    """Reads what `save_recording` wrote. Raises UserError for another file, a damaged one, or one of another
    environment than `env_id`, or with other sizes (O, A) of an observation and an action, where those are given."""
    state = load_state(path)
    if state.pop("kind", None) != KIND:
        raise CorruptFileError(f"{path} is not a recording; give a file that `rlhf-control play` wrote")
    try:
        recording = Recording(**state)
    except TypeError as error:
        raise CorruptFileError(f"{path} is not a whole recording ({error}); use another copy") from None
    problem = _problem(recording)
    if problem:
        raise CorruptFileError(f"{path} is not a whole recording ({problem}); use another copy")
    if env_id and recording.env_id != env_id:
        raise UserError(
            f"{path} was recorded in {recording.env_id}, not in {env_id}; record one with `rlhf-control play {env_id}`"
        )
    found = (recording.obs.shape[1], recording.action.shape[1])
    if sizes is not None and found != tuple(sizes):
        raise UserError(
            f"{path} has observations of {found[0]} and actions of {found[1]} numbers where {recording.env_id} here "
            f"has {sizes[0]} and {sizes[1]}; record it again with the same arguments of the environment"
        )
    return recording


def cut(recording: Recording, length: int) -> Segments:
    """Cuts the episodes into clips (S, L, ...), end to end, never across an end; what is left over at an end is left
    out. Raises UserError if nothing is left."""
    starts = [t for e in recording.episodes() for t in range(e.start, e.stop - length + 1, length)]
    if not starts:
        longest = max((e.stop - e.start for e in recording.episodes()), default=0)
        raise UserError(
            f"the recording of {recording.env_id} has no clip of {counted(length, 'step')} (its longest episode has "
            f"{longest}); shorten --clip-seconds, or record longer ones"
        )
    index = np.array(starts)[:, None] + np.arange(length)
    arrays: dict[str, Any] = {f.name: getattr(recording, f.name, None) for f in fields(Segments)}
    return Segments(**{name: value[index] for name, value in arrays.items() if value is not None})


def _problem(recording: Recording) -> str:
    """What no recording of ours has; "" if there is nothing."""
    if not isinstance(recording.env_id, str) or not isinstance(recording.env, dict):
        return "its environment is not named"
    for name, (kind, dimensions) in ARRAYS.items():
        value = getattr(recording, name)
        if value is None and name in MAY_LACK:
            continue
        if not isinstance(value, Array) or not issubclass(value.dtype.type, kind) or value.ndim != dimensions:
            return f"{name} is no {kind.__name__} array of {dimensions} dimensions"
        if len(value) != len(recording.obs):
            return f"{name} has {len(value)} steps, obs {len(recording.obs)}"
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return f"{name} is not finite"
    if len(recording) == 0 or not (recording.terminated | recording.truncated)[-1]:
        return "its last episode has no end"
    same = (recording.obs.shape, recording.obs.dtype) == (recording.next_obs.shape, recording.next_obs.dtype)
    return "" if same else "obs and next_obs differ in shape or dtype"
