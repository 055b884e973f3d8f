"""Tables as text: Markdown and for the terminal."""

from collections.abc import Sequence
from typing import Any


def table(corner: str, columns: Sequence[str], rows: dict[str, list[Any]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    cells = {name: ["" if v is None else f"{v:.3g}" for v in row] for name, row in rows.items()}
    header = [
        f"| {corner} | " + " | ".join(c.replace("_", " ") for c in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    return header + [f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()]


def terminal_table(rows: list[tuple[str, ...]]) -> str:
    rows = [("", "before", "after"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2])]) for row in rows
    )
