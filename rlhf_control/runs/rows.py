"""The rows of a run's metrics.jsonl, one an iteration."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.files import ForeignFileError, open_own, read_own, write_atomic

TAIL = 65_536  # bytes: longer than any row


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one row. A killed process loses at most this one; power loss, those since the last checkpoint, which a
    resumed run makes again."""
    try:
        with open_own(path, "ab") as file:
            file.write((json.dumps({k: _finite(v) for k, v in row.items()}) + "\n").encode())
    except ForeignFileError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space and resume") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads all rows. A last line that a crash cut off is left out. Raises CorruptFileError for other damage."""
    if not path.exists():
        return []
    rows = []
    lines = read_own(path).decode(errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append({**row, "iteration": int(row["iteration"])})
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise CorruptFileError(f"{path}, line {number} is no row of metrics; remove it") from None
        if len(rows) > 1 and rows[-1]["iteration"] != (due := rows[-2]["iteration"] + 1):
            raise CorruptFileError(
                f"{path}, line {number} is of iteration {rows[-1]['iteration']} where {due} is due: "
                "rows are missing or doubled; restore it from a copy"
            )
    return rows


def last_row(path: Path) -> dict[str, Any] | None:
    """Reads the newest whole row, at the cost of its own length: for who looks often. None if there is none."""
    with suppress(OSError, ValueError), open_own(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().split(b"\n")[:-1]  # what follows the last end of line was cut off
        return json.loads(lines[-1]) if lines else None
    return None


def rewind(path: Path, iterations: int) -> None:
    """Forgets the rows of iterations that a resumed run will do again."""
    if path.exists():
        kept = [json.dumps(row) + "\n" for row in read_rows(path) if row["iteration"] < iterations]
        write_atomic(path, "".join(kept).encode())


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
