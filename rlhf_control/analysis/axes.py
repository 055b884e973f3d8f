"""What all figures have in common: style, colours, curves, bands and labels on given axes."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlhf_control.analysis.curves import X_AXES, Band, Curve, aggregate, groups_of
from rlhf_control.analysis.statistics import bootstrap_interval, interquartile_mean, on_common_grid
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.data import Array

LABELS = {  # metric -> y axis, with its unit
    "env_return": "environment return (per episode)",
    "score": "behaviour score",
    "reward/heldout_accuracy": "held-out accuracy",
    "reward/fresh_accuracy": "fresh accuracy",
    "reward/heldout_loss": "held-out loss (nats)",
    "reward/end_costs": "cost of an end (sd of the reward per step)",
    "kl_start": "KL to pretrained (nats/step)",
    "kl_reference": "KL to reference (nats/step)",
    "approx_kl": "KL of one update (nats/step)",
    "entropy": "entropy (nats)",
    "beta": "KL weight β",
    "reward_mean": "learned reward (per step)",
    "true_reward": "true reward (per step)",
    "value_loss": "value loss",
    "steps_per_second": "environment steps per second",
    "labels": "labels (answers)",
    "wall_seconds": "wall time (s)",
}
# Okabe and Ito's colours, which the colour-blind can tell apart; without their yellow, too faint for a line on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
)  # fmt: skip
# Four styles beside seven colours: 28 groups before a pair repeats, and neighbours differ in grey print too.
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
GREY = "0.45"
ROUND = [1, 2, 2.5, 5, 10]  # steps between ticks, times a power of ten
FEW_POINTS = 25  # below this, a marker at every measurement
WIDTH = 7.0  # inches: the text width of a two-column paper
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure is the same everywhere
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.4,  # room for a dash pattern
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.4,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # TrueType outlines: many journals refuse Type 3
}


@contextmanager
def style() -> Iterator[None]:
    """Gives all our figures their look, within this block only."""
    with matplotlib.rc_context(STYLE):
        yield


def plot_curves(
    ax: Axes,
    curves: Sequence[Curve],
    metric: str,
    rng: np.random.Generator,
    x: str = "env_steps",
    smooth: int = 1,
    legend: bool = True,
) -> Axes:
    """Draws a line and a shaded interval for each group that has the metric; the legend stands above the data. Make the
    figure within `style()` for our fonts and sizes."""
    draw_bands(ax, aggregate(curves, metric, rng, x, smooth), groups_of(curves))
    label_axes(ax, x, metric_label(metric, curves), smooth)
    if legend:
        ax.legend(handles=legend_handles(curves), loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    return ax


def draw_bands(ax: Axes, bands: Sequence[Band], groups: Sequence[str]) -> Axes:
    """Draws the bands. `groups` fixes which group has which colour, also in a panel where some are missing."""
    for band in bands:
        line_style = _line_style(groups.index(band.group))
        # Few measurements are shown as such; and a single one is no line.
        ax.plot(band.x, band.iqm, **line_style, marker="o" if len(band.x) < FEW_POINTS else "")
        if band.runs > 1:
            ax.fill_between(band.x, band.low, band.high, color=line_style["color"], alpha=0.18, linewidth=0)
    return ax


def draw_intervals(ax: Axes, scores: Mapping[str, Array], rng: np.random.Generator) -> Axes:
    """Draws a row for each group, the first on top: its runs' scores (R,), if any, as faint dots, their interquartile
    mean and its 95 % interval. A dashed line goes down from the first group's mean."""
    for i, values in enumerate(scores.values()):
        if not len(values):
            continue
        line_style, mean = _line_style(i), float(interquartile_mean(values))
        ax.plot(values, np.full(len(values), i + 0.22), color="0.7", marker=".", markersize=4, linestyle="", zorder=2)
        if len(values) > 1:
            ax.plot(bootstrap_interval(values, rng), [i, i], color=line_style["color"], linewidth=2.2, alpha=0.5)
        ax.plot([mean], [i], color=line_style["color"], marker="o", markersize=4.5, linestyle="")
        if i == 0:
            ax.axvline(mean, color=GREY, linewidth=0.7, linestyle=DASHES[1], zorder=1)
    ax.set_yticks(range(len(scores)), [name.replace("$", r"\$") for name in scores])
    ax.set_ylim(len(scores) - 0.5, -0.5)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=True, axis="x", color="0.9", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    return ax


def draw_paths(ax: Axes, curves: Sequence[Curve], x: str, y: str, smooth: int = 1) -> Axes:
    """Draws a line for each group from metric to metric, of its runs' interquartile means at each step, over `smooth`
    measurements on the mean; a dot where it ends."""
    for i, group in enumerate(groups_of(curves)):
        members = [c for c in curves if c.group == group]
        means = [interquartile_mean(on_common_grid([c.series(metric) for c in members])[1]) for metric in (x, y)]
        along = [np.convolve(mean, np.full(smooth, 1 / smooth), "valid") for mean in means]
        ax.plot(*along, **_line_style(i), linewidth=1)
        ax.plot(along[0][-1:], along[1][-1:], color=_line_style(i)["color"], marker="o", markersize=4, linestyle="")
    return ax


def metric_label(metric: str, curves: Sequence[Curve]) -> str:
    """Names the y axis, with its unit; a score's unit is its behaviour's, where all curves are of the same one."""
    behaviours = {(c.behaviour, c.unit) for c in curves if metric in c.metrics}
    if metric == "score" and len(behaviours) == 1:
        name, unit = behaviours.pop()
        if known := BEHAVIOURS[name].unit if name in BEHAVIOURS else unit:  # older runs do not say it
            return f"{name} score ({known})"
    return LABELS.get(metric, metric)


def label_axes(ax: Axes, x: str, y: str, smooth: int = 1) -> Axes:
    """Sets names, units, quiet ticks and a thin grid. Steps count from 0, where the run began."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="0.9", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel(X_AXES[x])
    parts = [y] if len(y) <= 26 else y.replace(" (", "\n(").split("\n")  # longer than a panel is high
    parts = [line for part in parts for line in textwrap.wrap(part, 26)]
    ax.set_ylabel("\n".join(parts + [f"(mean of {smooth} measurements)"] * (smooth > 1)))
    ax.margins(x=0.02)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=ROUND, integer=x != "wall_seconds"))
    ax.yaxis.set_major_locator(MaxNLocator("auto", steps=ROUND))
    if x != "wall_seconds":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 250k
    return ax


def _line_style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def legend_handles(curves: Sequence[Curve], width: int = 36) -> list[Line2D]:
    """Makes a line for each group, named in lines of `width` characters, with the number of its runs."""
    counts = {group: sum(c.group == group for c in curves) for group in groups_of(curves)}
    handles = []
    for i, (group, n) in enumerate(counts.items()):
        text = textwrap.fill(f"{group} ({n} {'run' if n == 1 else 'runs'})", width)
        handles.append(Line2D([], [], **_line_style(i), label=text.replace("$", r"\$")))  # a path's $ is no formula
    return handles
