"""Curves and bands -> figures. The only file that imports matplotlib.

Functions that draw take and return `ax`; a figure is a `Figure` of its own, never pyplot's: no window can open, no
backend is chosen for the caller's process, and nothing has to be closed.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter, ScalarFormatter

from rlhf_control.analysis.axes import (
    BLUE,
    DASHES,
    FEW_POINTS,
    GREY,
    LABELS,
    ROUND,
    VERMILLION,
    WIDTH,
    draw_bands,
    draw_intervals,
    draw_paths,
    label_axes,
    legend_handles,
    metric_label,
    style,
)
from rlhf_control.analysis.curves import (
    X_AXES,
    Curve,
    aggregate,
    check_x,
    csv_table,
    groups_of,
    label_rounds,
    load_curves,
    metrics_of,
    renamed,
    require_metrics,
    whole_runs,
)
from rlhf_control.analysis.statistics import performance_profile
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.rng import stream
from rlhf_control.runs.files import write_atomic
from rlhf_control.wording import counted

DEFAULT_METRICS = ("env_return", "score", "reward/heldout_accuracy", "kl_start")


# -- files


def save_figure(fig: Figure, path_without_suffix: str | Path) -> list[Path]:
    """Writes PATH.png (150 dpi) and PATH.pdf (vectors, text as text). The same figure gives the same bytes."""
    written = []
    dated = {"png": {"Software": None}, "pdf": {"CreationDate": None}}  # None: left out of the file
    for suffix, metadata in dated.items():
        buffer = io.BytesIO()
        with style():
            fig.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
        path = _with_ending(path_without_suffix, suffix)
        write_atomic(path, buffer.getvalue())
        written.append(path)
    return written


def plot_runs(
    run_paths: Sequence[str | Path],
    out: str | Path,
    metrics: Sequence[str] | None = None,
    x: str = "env_steps",
    smooth: int = 1,
    ignore: Sequence[str] = (),
    names: Sequence[str] = (),
) -> list[Path]:
    """Does `rlhf-control plot RUN...`: a panel for each metric goes into OUT.png and OUT.pdf, the numbers into OUT.csv.
    `names` are for the legend, one for each curve in the order of the runs."""
    check_x(x)
    curves = renamed(whole_runs(load_curves(run_paths, ignore)), names)
    if not curves:
        raise UserError("no run is left to plot; name at least one whose numbers are finite")
    if not metrics:
        metrics = [m for m in DEFAULT_METRICS if any(len(c.series(m, x)[0]) for c in curves)]
        if not metrics:
            there = ", ".join(metrics_of(curves))
            raise UserError(
                f"the runs have none of the metrics drawn by default; name some with --metrics; there are: {there}"
            )
    require_metrics(curves, metrics, x)
    bands = {metric: aggregate(curves, metric, stream(0, f"plot_runs {metric}"), x, smooth) for metric in metrics}
    end = 1.02 * max(band.x[-1] for of_metric in bands.values() for band in of_metric)
    out = str(out)
    for suffix in (".png", ".pdf", ".csv"):
        out = out.removesuffix(suffix)

    columns = len(metrics) if len(metrics) <= 3 else 2 if len(metrics) == 4 else 3
    rows = -(-len(metrics) // columns)
    handles = legend_handles(curves, 100 if columns > 1 else 44)
    lines = sum(str(handle.get_label()).count("\n") + 1 for handle in handles)
    with style():
        size = (WIDTH if columns > 1 else WIDTH / 2, 2.1 * rows + 0.17 * lines)
        fig = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        axes = fig.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(metrics) :]:
            ax.remove()
        for ax, metric in zip(axes, metrics, strict=False):
            draw_bands(ax, bands[metric], groups_of(curves))
            label_axes(ax, x, metric_label(metric, curves), smooth)
            ax.set_xlim(0, end)
        fig.align_ylabels()
        fig.legend(handles=handles, loc="outside lower center")
        paths = save_figure(fig, out)
    table = _with_ending(out, "csv")
    write_atomic(table, csv_table(bands).encode())
    return [*paths, table]


def _with_ending(path: str | Path, suffix: str) -> Path:
    """Appended, not replaced: in `keep-pace-0.5` the .5 is no suffix."""
    path = Path(path)
    return path.with_name(f"{path.name}.{suffix}")


# -- figures of experiments: groups of runs side by side


def plot_groups(scores: Mapping[str, Mapping[str, Array]], out: str | Path) -> list[Path]:
    """Draws metric -> group -> its runs' scores (R,) into OUT.png and OUT.pdf: a panel for each metric, named by it, a
    row for each group."""
    groups = list(dict.fromkeys(group for of_metric in scores.values() for group in of_metric))
    with style():
        size = (WIDTH, 0.75 + 0.22 * len(groups))
        fig = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        axes = fig.subplots(1, len(scores), squeeze=False, sharey=True)[0]
        for ax, (metric, of_metric) in zip(axes, scores.items(), strict=True):
            draw_intervals(ax, {g: of_metric.get(g, np.empty(0)) for g in groups}, stream(0, f"plot_groups {metric}"))
            ax.set_xlabel("\n".join(textwrap.wrap(metric, 66 // len(scores))))
        return save_figure(fig, out)


def plot_each_group(curves: Sequence[Curve], metric: str, out: str | Path) -> list[Path]:
    """Draws a small panel for each group's learning curve into OUT.png and OUT.pdf, the first group's in grey behind
    it."""
    groups, bands = groups_of(curves), aggregate(curves, metric, stream(0, f"plot_each_group {metric}"))
    rows = -(-len(groups) // 4)
    columns = -(-len(groups) // rows)
    with style():
        fig = Figure((WIDTH, 0.4 + 1.25 * rows), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04))  # inches
        axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for i, (ax, group) in enumerate(zip(axes, groups, strict=False)):
            ax.plot(bands[0].x, bands[0].iqm, color="0.6", linewidth=1)
            draw_bands(ax, [band for band in bands if band.group == group], groups)
            label_axes(ax, "env_steps", "")
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=i + columns >= len(groups))
            ax.xaxis.set_major_locator(MaxNLocator(3, steps=ROUND, integer=True))
            ax.set_title("\n".join(textwrap.wrap(group.replace("$", r"\$"), 30)), fontsize=8)
        for ax in axes[len(groups) :]:
            ax.remove()
        fig.supxlabel(f"{X_AXES['env_steps']} (grey: {groups[0]})", fontsize=8)
        fig.supylabel(metric_label(metric, curves), fontsize=8)
        return save_figure(fig, out)


def plot_overoptimisation(curves: Sequence[Curve], out: str | Path, smooth: int = 1) -> list[Path]:
    """Draws learned and true reward over steps into OUT.png and OUT.pdf, and the true one over the square root of the
    KL from the start. Along that it rises and then falls where the learned reward is followed too far. Means of
    `smooth` measurements: an episode, where all environments start theirs at once and a measurement is a stretch of
    it."""
    rng, groups = stream(0, "plot_overoptimisation"), groups_of(curves)
    rooted = [
        replace(c, metrics={**c.metrics, "sqrt_kl": np.sqrt(np.maximum(c.metrics["kl_start"], 0))}) for c in curves
    ]
    handles = legend_handles(curves, 100)
    with style():
        size = (WIDTH, 2.2 + 0.17 * len(handles))
        fig = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        learned, true, over_kl = fig.subplots(1, 3)
        for ax, metric in ((learned, "reward_mean"), (true, "true_reward")):
            draw_bands(ax, aggregate(curves, metric, rng, smooth=smooth), groups)
            label_axes(ax, "env_steps", metric_label(metric, curves), smooth)
        draw_paths(over_kl, rooted, "sqrt_kl", "true_reward", smooth)
        label_axes(over_kl, "env_steps", LABELS["true_reward"], smooth)
        over_kl.set_xlabel("square root of\nKL from the start")
        over_kl.autoscale(axis="x")
        over_kl.xaxis.set_major_formatter(ScalarFormatter())
        fig.legend(handles=handles, loc="outside lower center")
        return save_figure(fig, out)


def plot_profiles(comparison: Mapping[str, Any], out: str | Path) -> list[Path]:
    """Draws what `comparison.compare` found into OUT.png and OUT.pdf: the share of either side's scores above each
    threshold, with its 95 % bootstrap band. A curve that is nowhere below the other is stochastically better."""
    scores = [np.array(side["scores"]) for side in comparison["sides"]]
    low, high = min(map(np.min, scores)), max(map(np.max, scores))
    margin = 0.05 * (high - low) or 1.0
    thresholds = np.linspace(low - margin, high + margin, 201)
    with style():
        fig = Figure((WIDTH / 2, 2.6), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        ax = fig.subplots()
        for name, own, colour, dash in zip("AB", scores, (BLUE, VERMILLION), DASHES, strict=False):
            share, below, above = performance_profile(own, thresholds, stream(0, f"plot_profiles {name}"))
            ax.plot(thresholds, share, color=colour, linestyle=dash, label=f"{name}: {counted(len(own), 'score')}")
            ax.fill_between(thresholds, below, above, color=colour, alpha=0.2, linewidth=0)
        ax.set(xlabel=f"{comparison['metric']}, threshold".replace("_", " "), ylabel="share above it", ylim=(0, 1.02))
        fig.legend(loc="outside lower center", ncols=2)
        return save_figure(fig, out)


# -- the figure of one fine-tuning run


def plot_finetune(run_path: str | Path, out_base: str | Path | None = None) -> list[Path]:
    """Draws four panels over environment steps: behaviour (or the learned reward, where there is no score), environment
    return, how right the reward model is, and how far the policy has gone. Default: curves.png and curves.pdf in the
    run's folder."""
    curve = load_curves([run_path])[0]
    if curve.command != "finetune":
        raise UserError(f"{curve.path} is a {curve.command} run; use `rlhf-control plot {curve.path} --out NAME`")
    with style():
        fig = Figure((WIDTH, 4.3), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        (score, env_return), (accuracy, kl) = fig.subplots(2, 2, sharex=True)
        success = "score" if len(curve.series("score")[0]) else "reward_mean"
        for ax, metric in ((score, success), (env_return, "env_return"), (accuracy, ""), (kl, "kl_start")):
            label_axes(ax, "env_steps", metric_label(metric, [curve]))
            ax.grid(visible=False, axis="x")  # the label rounds stand there
        score.set_xlim(0, 1.02 * curve.steps[-1])
        score.set_xlabel("")  # the panels below have it
        env_return.set_xlabel("")
        accuracy.set_ylabel("reward model's accuracy")
        _line(score, curve, success, BLUE)
        _line(env_return, curve, "env_return", BLUE)
        _line(accuracy, curve, "reward/heldout_accuracy", BLUE, 0, "held-out")
        _line(accuracy, curve, "reward/fresh_accuracy", VERMILLION, 1, "fresh")
        _line(kl, curve, "kl_start", BLUE)
        _mark_rounds(curve, score, env_return, accuracy, kl)
        _finish_accuracy(accuracy)
        _draw_beta(kl, curve)
        fig.align_ylabels()
        return save_figure(fig, out_base if out_base is not None else curve.path / "curves")


def _line(ax: Axes, curve: Curve, metric: str, colour: str, dash: int = 0, label: str = "") -> None:
    """One metric of one run; a note where the run does not have it."""
    x, y = curve.series(metric)
    if len(x):
        marker = "o" if len(x) < FEW_POINTS else ""
        ax.plot(x, y, color=colour, linestyle=DASHES[dash], marker=marker, label=label or None)
    elif dash == 0:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", va="center", color=GREY)


def _mark_rounds(curve: Curve, top_panel: Axes, *others: Axes) -> None:
    """A faint line at each label round, with the answers so far above the first panel."""
    steps, labels = label_rounds(curve)
    if not len(steps):
        return
    for ax in (top_panel, *others):
        for step in steps:
            ax.axvline(step, color="0.75", linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
    top = top_panel.secondary_xaxis("top")
    top.spines["top"].set_visible(False)
    text = [f"{n:.0f}" for n in labels]
    shown = _spread(steps, (0.03 + 0.025 * len(text[-1])) * curve.steps[-1])  # a digit is 2.5 % of the panel wide
    top.set_xticks(steps[shown], [text[i] for i in shown])
    top.tick_params(length=0, pad=1, labelsize=7, labelcolor=GREY)
    top.set_xlabel("labels used", fontsize=7, color=GREY, labelpad=3)


def _spread(places: Array, gap: float) -> list[int]:
    """The places of which no two are nearer than `gap`, from the last to the first: the total always stays."""
    kept: list[int] = []
    for i in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[i] >= gap:
            kept.append(i)
    return kept[::-1]


def _finish_accuracy(ax: Axes) -> None:
    """From chance to always right; lower only where the reward model was worse than a coin."""
    shown = ax.get_legend_handles_labels()[1]
    low = min((float(np.min(line.get_ydata())) for line in ax.get_lines() if line.get_label() in shown), default=0.5)
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=DASHES[1], zorder=1)
    ax.set_ylim(min(0.45, low - 0.05), 1.02)
    ax.yaxis.set_major_locator(MultipleLocator(0.1))
    ax.annotate(
        "chance", (1, 0.5), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", color=GREY, fontsize=7,
    )  # fmt: skip
    if shown:
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1, columnspacing=1.2)


def _draw_beta(ax: Axes, curve: Curve) -> None:
    """The anchor's weight: a word above the panel where it was fixed, else a line with an axis at the right."""
    ax.set_ylim(bottom=0)  # a KL
    x, beta = curve.series("beta")
    if len(x) and np.ptp(beta) == 0:
        ax.set_title(f"{LABELS['beta']} = {beta[0]:.3g}", loc="right", fontsize=8, color=GREY)
    elif len(x):
        right = ax.twinx()
        right.spines["top"].set_visible(False)
        right.plot(x, beta, color=VERMILLION, linestyle=DASHES[1])
        right.set_ylabel(LABELS["beta"], color=VERMILLION)
        ax.yaxis.label.set_color(BLUE)
        if beta.min() > 0 and beta.max() > 20 * beta.min():  # an adaptive beta moves by factors
            right.set_yscale("log")
            right.yaxis.set_major_locator(LogLocator())
            right.yaxis.set_minor_formatter(NullFormatter())
        else:
            right.set_ylim(bottom=0)
            right.yaxis.set_major_locator(MaxNLocator("auto", steps=ROUND))


def plot_reward_evaluation(result: dict[str, Any], out: str | Path) -> list[Path]:
    """Draws what `evaluate_reward` found into OUT.png and OUT.pdf: learned and true reward over steps and over
    sqrt(KL), reliability of the probabilities, and accuracy by source of clips."""
    with style():
        fig = Figure((WIDTH, 4.3), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))  # inches
        (over_steps, over_kl), (reliability, accuracy) = fig.subplots(2, 2)
        curves = result["curves"]
        axes = (
            (over_steps, "env_steps", "environment steps"),
            (over_kl, "sqrt_kl", "square root of KL from the start"),
        )
        for ax, x, label in axes:
            _two_rewards(ax, curves, x)
            ax.locator_params(axis="x", nbins=4)
            ax.set_xlabel(label)
        reliability.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for (name, row), dash in zip(result["sources"].items(), DASHES, strict=False):
            if "reliability" in row and not name.startswith("round"):
                table = row["reliability"]
                reliability.plot(
                    table["probability"], table["frequency"], marker="o", markersize=3, linestyle=dash, label=name
                )
        reliability.set(xlabel="probability given", ylabel="share that came true", xlim=(0, 1), ylim=(0, 1))
        known = {name: row["accuracy"] for name, row in result["sources"].items() if row.get("accuracy") is not None}
        accuracy.bar(list(known), list(known.values()), color=BLUE)
        accuracy.axhline(0.5, color=GREY, linewidth=0.8)
        accuracy.set(ylabel="accuracy on pairs", ylim=(0, 1))
        accuracy.tick_params(axis="x", labelrotation=60)
        if known:
            reliability.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1)
        fig.align_ylabels()
        return save_figure(fig, out)


def _two_rewards(ax: Axes, curves: dict[str, list[Any]], x: str) -> None:
    """The learned reward (left) and the true one (right) over `x`."""
    right = ax.twinx()
    right.spines["top"].set_visible(False)
    for axis, name, colour in ((ax, "learned", BLUE), (right, "true", VERMILLION)):
        kept = [(a, b) for a, b in zip(curves[x], curves[name], strict=True) if a is not None and b is not None]
        if kept:
            axis.plot(*zip(*kept, strict=True), color=colour, marker="." if x == "sqrt_kl" else "", linewidth=1)
        axis.set_ylabel(f"{name} reward", color=colour)
