"""A run's votes with their clips as a LeRobot data set, version 3.0, written by pyarrow alone.

The layout is that of LeRobot 0.4.4, whose own package pins what this project cannot stand beside:

meta/info.json                                features, counts, paths
meta/stats.json                               of every number: min, max, mean, std, count
meta/tasks.parquet                            the question; the text is the index
meta/episodes/chunk-000/file-000.parquet      an episode a clip: its rows, its task and its digest
data/chunk-000/file-000.parquet               a row a step, of all clips
meta/queries.jsonl, meta/answers.jsonl        the votes, which name clips by digest (see `feedback.export`)

LeRobot has a row an action and no last observation, so each row has both its observation and the next one. Actions are
as carried out (clipped, or one-hot). L segment length.
"""

import io
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.export import tables
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.files import write_atomic
from rlhf_control.spaces import Part, Spaces

PREFIX = "lerobot:"
VERSION = "v3.0"
CHUNK = "chunk-000/file-000.parquet"
OWN = {  # the columns that every data set has
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip
Columns = dict[str, Array | list[Any]]


def export_to_lerobot(store: FeedbackStore, folder: str | Path, spaces: Spaces | None, task: str, fps: int) -> None:
    """Writes all clips and votes of a store into a new folder. `spaces` are those of its run (None: only a store is
    known, and observations are one vector); `task` is what was asked, in words; `fps` are steps a second. Raises
    UserError if the folder is there."""
    if find_spec("pyarrow") is None:
        raise UserError("pyarrow is not installed: pip install 'rlhf_control[data]'")
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists; name another folder")
    asked, lines = tables(store)
    clips = store.segments({digest: None for query in asked for digest in query.clips})
    if not clips:
        raise UserError("there are no clips to export: nothing was asked yet")
    present = {digest: clip.present() for digest, clip in clips.items()}
    parts = spaces.parts if spaces else (_whole(next(iter(present.values()))),)
    features, columns, start = _features(parts, next(iter(present.values()))), [], 0
    episodes: list[dict[str, Any]] = []
    for i, (digest, clip) in enumerate(present.items()):
        made = _columns(clip, parts) | _own(len(clip), i, start, fps)
        columns.append(made)
        place = {"data/chunk_index": 0, "data/file_index": 0, "meta/episodes/chunk_index": 0}
        episodes.append({
            "episode_index": i, "tasks": [task], "length": len(clip), **place, "meta/episodes/file_index": 0,
            "dataset_from_index": start, "dataset_to_index": start + len(clip), "digest": digest,
            **{f"stats/{name}/{key}": value for name, s in _stats(made).items() for key, value in s.items()},
        })  # fmt: skip
        start += len(clip)
    together: Columns = {name: [row for made in columns for row in made[name]] for name in columns[0]}
    info = {
        "codebase_version": VERSION, "robot_type": None, "total_episodes": len(present), "total_frames": start,
        "total_tasks": 1, "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": fps,
        "splits": {"train": f"0:{len(present)}"}, "video_path": None, "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    }  # fmt: skip
    _write(folder / "data" / CHUNK, _table(together, features))
    _write(folder / "meta/episodes" / CHUNK, _rows(episodes))
    _write(folder / "meta/tasks.parquet", _tasks(task))
    stats = _stats({name: np.asarray(v) for name, v in together.items() if features[name]["dtype"] != "image"})
    write_atomic(folder / "meta/stats.json", json.dumps(stats, indent=4).encode())
    for name, content in lines.items():
        write_atomic(folder / "meta" / name, content)
    write_atomic(folder / "meta/info.json", json.dumps(info, indent=4).encode())  # last: now it is a data set


def _whole(clip: Segments) -> Part:
    return Part("", clip.obs.shape[1:], clip.obs.dtype.name, 0, clip.obs.shape[1])


def _drawn(part: Part) -> bool:
    """Whether a part becomes a PNG; other pictures (stacks of them, say) become numbers."""
    return part.picture and (len(part.shape) == 2 or part.shape[-1] == 3)


def _name(part: Part) -> str:
    name = part.name.replace("/", ".")
    return f"observation.images.{name or 'camera'}" if _drawn(part) else f"observation.{name or 'state'}"


def _features(parts: tuple[Part, ...], clip: Segments) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        made: dict[str, Any]
        if _drawn(part):
            shape = [*part.shape[:2], 3]
            made = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
        else:
            made = {"dtype": part.dtype, "shape": [int(np.prod(part.shape))], "names": None}
        found |= {_name(part): made, f"next.{_name(part)}": made}
    found["action"] = {"dtype": "float32", "shape": [clip.action.shape[1]], "names": None}
    found["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    found["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
    return found | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in OWN.items()}


def _columns(clip: Segments, parts: tuple[Part, ...]) -> Columns:
    made: Columns = {}
    for part in parts:
        for name, packed in ((_name(part), clip.obs), (f"next.{_name(part)}", clip.next_obs)):
            values = part.read(packed)
            made[name] = [_png(picture) for picture in values] if _drawn(part) else values.reshape(len(clip), -1)
    # A clip is cut off where it ends: nothing says that the task was done
    return made | {
        "action": clip.action, "next.reward": clip.env_reward, "next.done": np.arange(len(clip)) == len(clip) - 1
    }  # fmt: skip


def _own(length: int, episode: int, start: int, fps: int) -> Columns:
    frame = np.arange(length)
    return {
        "timestamp": (frame / fps).astype(np.float32), "frame_index": frame, "episode_index": np.full(length, episode),
        "index": start + frame, "task_index": np.zeros(length, np.int64),
    }  # fmt: skip


def _png(picture: Array) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _stats(columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """min, max, mean, std and count of the columns of numbers."""
    found = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray):
            rows = values.reshape(len(values), -1).astype(np.float64)
            figures = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
            found[name] = {key: value.tolist() for key, value in figures.items()} | {"count": [len(rows)]}
    return found


def _table(columns: Columns, features: Mapping[str, dict[str, Any]]) -> Any:
    import pyarrow as pa

    arrays = {}
    for name, feature in features.items():
        values, size = columns[name], feature["shape"][0]
        if feature["dtype"] == "image":
            arrays[name] = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
            continue
        flat = pa.array(np.asarray(values, feature["dtype"]).ravel())
        arrays[name] = flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)
    return pa.table(arrays)


def _rows(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


def _tasks(task: str) -> Any:
    """The table of tasks as pandas writes one whose index is the text."""
    import pyarrow as pa

    def column(name: str | None, field: str, kind: str, numpy_type: str) -> dict[str, Any]:
        return {
            "name": name, "field_name": field, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None
        }  # fmt: skip

    index = "__index_level_0__"
    described = {
        "index_columns": [index], "column_indexes": [], "pandas_version": "2.0.0",
        "columns": [column("task_index", "task_index", "int64", "int64"), column(None, index, "unicode", "object")],
    }  # fmt: skip
    table = pa.table({"task_index": pa.array([0], pa.int64()), index: pa.array([task])})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy", use_dictionary=True)
    write_atomic(path, buffer.getvalue())
