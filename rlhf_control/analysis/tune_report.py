"""What came of a search: the best trials, what mattered, and the preset that was found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rlhf_control.analysis.axes import BLUE, WIDTH, style
from rlhf_control.analysis.figures import save_figure
from rlhf_control.config.search_space import Space, Span, toml_of
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic
from rlhf_control.wording import counted

BEST = 10  # trials in the table
NEAR = 5  # lines that are drawn boldly


class TrialRecord(Protocol):
    """Says what the report wants to know of a trial."""

    @property
    def number(self) -> int: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def value(self) -> float | None: ...
    @property
    def state(self) -> str: ...


def tune_report(
    trials: Sequence[TrialRecord], mattered: Mapping[str, float], space: Space, about: Mapping[str, Any], out: Path
) -> str:
    """Writes preset.toml, report.md and the figures into `out`, and returns the report. `about`: the command, the
    metric and the options that all runs had. Raises UserError if no trial came to its end."""
    complete = sorted((t for t in trials if t.state == "complete"), key=lambda t: -(t.value or 0.0))
    if not complete:
        raise UserError(f"none of {counted(len(trials), 'trial')} came to its end; see {out}/trial-*.log")
    best, metric = complete[0], about["metric"]
    said = f"found by rlhf-control tune: trial {best.number} of {len(trials)}, {metric} {best.value:.4g} at the end"
    preset = toml_of(about["command"], {**about["options"], **best.options}, said)
    write_atomic(out / "preset.toml", preset.encode())
    ends = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned", "fail")}
    lines = [f"# {metric} after {counted(len(trials), 'trial')}", ""]
    lines += [
        f"{ends['complete']} complete, {ends['pruned']} pruned, {ends['fail']} failed; one seed each, so that the best "
        "is partly luck: run preset.toml over several seeds (`rlhf-control sweep`) before you trust it.",
        "",
    ]
    lines += [f"| trial | {metric} | {' | '.join(space)} |", "|---:|---:|" + "---|" * len(space)]
    for trial in complete[:BEST]:
        cells = [_text(trial.options.get(name)) for name in space]
        lines.append(f"| {trial.number} | {trial.value:.4g} | {' | '.join(cells)} |")
    if len(complete) > 1:
        draw_parallel(complete, space, metric, out / "parallel_coordinates")
        lines += ["", "![Parallel coordinates](parallel_coordinates.png)"]
    if mattered:
        draw_importances(mattered, out / "importances")
        lines += ["", "What sets the best trials apart (PED-ANOVA, arXiv 2304.10255):", "",
                  "![Importances](importances.png)"]  # fmt: skip
    text = "\n".join([*lines, "", f"The best is in {out / 'preset.toml'}."]) + "\n"
    write_atomic(out / "report.md", text.encode())
    return text


def draw_parallel(trials: Sequence[TrialRecord], space: Space, metric: str, path: Path) -> None:
    """Draws a line for each trial through its options and its value, coloured by that; the best first in `trials`."""
    values = np.array([t.value for t in trials], np.float64)
    span = np.ptp(values) or 1.0
    heights = np.stack([*(positions(trials, name, domain) for name, domain in space.items()),
                        (values - values.min()) / span], axis=1)  # fmt: skip
    with style():
        fig = Figure((WIDTH, 3.2), layout=ConstrainedLayoutEngine())
        ax = fig.add_subplot()
        colours = matplotlib.colormaps["viridis"]((values - values.min()) / span)
        for rank in reversed(range(len(trials))):
            ax.plot(heights[rank], color=colours[rank], lw=1.6 if rank < NEAR else 0.6, zorder=len(trials) - rank)
        marks = [(i, at, label) for i, domain in enumerate(space.values()) for at, label in ends_of(domain)]
        marks += [(len(space), 0.0, f"{values.min():.4g}"), (len(space), 1.0, f"{values.max():.4g}")]
        for i, at, label in marks:
            box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
            ax.annotate(label, (i, at), fontsize=6, ha="center", va="center", bbox=box, zorder=len(trials) + 1)
        ax.set_xticks(range(len(space) + 1), [*space, metric], rotation=60, ha="right", fontsize=6)
        ax.set_yticks([])
        ax.grid(axis="x")
        save_figure(fig, path)


def positions(trials: Sequence[TrialRecord], name: str, domain: Span | tuple[Any, ...]) -> Array:
    """Returns where trials cross an option's axis, from 0 to 1, (trials,)."""
    found = [t.options[name] for t in trials]
    if isinstance(domain, Span):
        scale = np.log if domain.log else np.asarray
        low, high = scale(domain.low), scale(domain.high)
        return (scale(np.array(found, np.float64)) - low) / (high - low)
    choices = [list(c) if isinstance(c, tuple) else c for c in domain]
    at = [choices.index(list(v) if isinstance(v, tuple) else v) for v in found]
    return np.array(at) / max(1, len(choices) - 1)


def ends_of(domain: Span | tuple[Any, ...]) -> list[tuple[float, str]]:
    """Returns the marks of an option's axis."""
    if isinstance(domain, Span):
        return [(0.0, f"{domain.low:g}"), (1.0, f"{domain.high:g}")]
    return [(i / max(1, len(domain) - 1), _text(choice)) for i, choice in enumerate(domain)]


def draw_importances(mattered: Mapping[str, float], path: Path) -> None:
    """Draws a bar for each option, the longest on top."""
    ordered = sorted(mattered.items(), key=lambda item: item[1])
    with style():
        fig = Figure((WIDTH / 2, 0.5 + 0.18 * len(ordered)), layout=ConstrainedLayoutEngine())
        ax = fig.add_subplot()
        ax.barh([name for name, _ in ordered], [share for _, share in ordered], color=BLUE)
        ax.set_xlabel("importance (shares of 1)")
        save_figure(fig, path)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
