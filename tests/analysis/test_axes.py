from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlhf_control.analysis import axes
from rlhf_control.analysis import figures as plots
from tests.synthetic_runs import ONE, finetuning, make_run


def test_a_group_keeps_its_look_where_others_are_missing(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "a", ONE, {"entropy": [1.0, 2.0]})]
    paths += [finetuning(tmp_path / f"b{s}", replace(ONE, labels=50, seed=s)) for s in (0, 1)]
    curves = plots.load_curves(paths)
    ax = Figure().subplots()
    assert axes.plot_curves(ax, curves, "score", np.random.default_rng(0)) is ax
    [line] = ax.get_lines()
    assert line.get_color() == axes.VERMILLION  # the second group's
    assert len(ax.collections) == 1  # its interval
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text().replace("\n", " ") for text in legend.get_texts()] == [
        "finetune backward, 100 labels (1 run)",
        "finetune backward, 50 labels (2 runs)",
    ]
    assert not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()
    assert ax.get_xlabel() == "environment steps" and ax.get_ylabel() == "backward score\n(m/s backward)"

    ax = Figure().subplots()
    axes.plot_curves(ax, curves, "entropy", np.random.default_rng(0), legend=False)
    assert not ax.collections and ax.get_legend() is None  # one run: a plain line


def test_neighbouring_groups_differ_without_colour() -> None:
    styles = [axes._line_style(i) for i in range(28)]
    assert len({str(style) for style in styles}) == 28
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(styles))


def test_the_style_stays_within() -> None:
    before = dict(matplotlib.rcParams)
    with axes.style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before


def test_intervals_are_those_of_the_scores() -> None:
    scores = {"one": np.array([1.0, 2.0, 6.0]), "none": np.empty(0), "alone": np.array([4.0])}
    ax = axes.draw_intervals(Figure().subplots(), scores, np.random.default_rng(0))
    runs, band, mean, dashed, lonely_run, lonely_mean = ax.get_lines()
    np.testing.assert_array_equal(runs.get_xdata(), [1, 2, 6])
    np.testing.assert_array_equal(band.get_xdata(), [1, 6])  # three runs: from the lowest to the highest
    assert mean.get_xdata() == [3.0] == [dashed.get_xdata()[0]] and mean.get_ydata() == [0]
    assert lonely_run.get_xdata() == lonely_mean.get_xdata() == [4.0] and lonely_mean.get_ydata() == [2]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "none", "alone"]
    assert ax.yaxis_inverted()


def test_a_path_goes_through_the_means_of_the_runs(tmp_path: Path) -> None:
    values = ([0.0, 1.0, 4.0], [5.0, 3.0, 7.0]), ([2.0, 3.0, 6.0], [1.0, 1.0, 1.0])
    paths = [
        make_run(tmp_path / str(s), replace(ONE, seed=s), {"kl_start": x, "true_reward": y})
        for s, (x, y) in enumerate(values)
    ]
    curves = plots.load_curves(paths)
    line, end = axes.draw_paths(Figure().subplots(), curves, "kl_start", "true_reward").get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [2, 2], [5, 4]])
    np.testing.assert_array_equal(end.get_xydata(), [[5, 4]])
    line, _ = axes.draw_paths(Figure().subplots(), curves, "kl_start", "true_reward", smooth=2).get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[1.5, 2.5], [3.5, 3]])
