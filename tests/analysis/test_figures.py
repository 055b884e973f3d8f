"""Curves, bands and figures, on small synthetic runs."""

import csv
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rlhf_control.analysis import axes
from rlhf_control.analysis import figures as plots
from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from tests.synthetic_runs import ONE, finetuning, make_run

# -- drawing


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


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    paths = [finetuning(tmp_path / name, replace(ONE, policy=f"runs/${name}$_{{")) for name in "ab"]
    assert plots.load_curves(paths)[0].group == "finetune backward, policy runs/$a$_{"
    check_figure(*plots.plot_runs(paths, tmp_path / "out", ["score"])[:2])


def test_neighbouring_groups_differ_without_colour() -> None:
    looks = [axes._look(i) for i in range(28)]
    assert len({str(look) for look in looks}) == 28
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(looks))


def test_the_style_stays_within() -> None:
    before = dict(matplotlib.rcParams)
    with axes.style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before


# -- files


def check_figure(png: Path, pdf: Path) -> None:
    with Image.open(png) as image:
        image.load()  # raises if the file is cut off
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in data and b"/FontFile2" in data  # TrueType, inside the file
    assert b"/CreationDate" not in data
    assert not list(png.parent.glob(".*.tmp"))


def test_a_figure_is_saved_whole_and_always_the_same(tmp_path: Path) -> None:
    path = finetuning(tmp_path / "run")
    first = plots.plot_runs([path], tmp_path / "keep-pace-0.5", ["score"])
    second = plots.plot_runs([path], tmp_path / "again.png", ["score"])
    assert [p.name for p in first] == ["keep-pace-0.5.png", "keep-pace-0.5.pdf", "keep-pace-0.5.csv"]
    assert [p.name for p in second] == ["again.png", "again.pdf", "again.csv"]
    check_figure(first[0], first[1])
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    # another process, with another seed of Python's string hashes
    code = "import sys; from rlhf_control.analysis.figures import plot_runs;"
    code += "plot_runs([sys.argv[1]], sys.argv[2], ['score'])"
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "third")]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "7"}, timeout=120)
    for a, suffix in zip(first, ("png", "pdf", "csv"), strict=True):
        assert a.read_bytes() == (tmp_path / f"third.{suffix}").read_bytes()


def test_plot_runs_draws_what_there_is(tmp_path: Path) -> None:
    paths = [finetuning(tmp_path / f"{n}-{s}", replace(ONE, labels=n, seed=s)) for n in (100, 50) for s in range(3)]
    png, pdf, table = plots.plot_runs(paths, tmp_path / "figures/all")
    check_figure(png, pdf)
    with open(table) as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["group", "x", "metric", "iqm", "low", "high", "runs"]
    assert list(dict.fromkeys(row["metric"] for row in rows)) == list(plots.DEFAULT_METRICS)
    assert {row["runs"] for row in rows} == {"3"}
    [band, _] = plots.aggregate(plots.load_curves(paths), "score", np.random.default_rng(0))
    scores = [row for row in rows if row["metric"] == "score" and row["group"] == band.group]
    np.testing.assert_array_equal([float(row["iqm"]) for row in scores], band.iqm)  # in full precision
    np.testing.assert_array_equal([float(row["x"]) for row in scores], band.x)
    assert all(float(row["low"]) <= float(row["iqm"]) <= float(row["high"]) for row in scores)


def test_plot_runs_by_labels_and_seconds(tmp_path: Path) -> None:
    path = finetuning(tmp_path / "run")
    for x, expected in (("labels", [20, 60, 100]), ("wall_seconds", list(0.5 * np.arange(12)))):
        *_, table = plots.plot_runs([path], tmp_path / x, ["score"], x=x)
        with open(table) as file:
            rows = list(csv.DictReader(file))
        assert [float(row["x"]) for row in rows] == expected
        assert {row["low"] for row in rows} == {""}  # one run, no interval


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", PretrainConfig("HalfCheetah-v5"), {"entropy": [1.0, 2.0]})
    there = "there are: entropy, wall_seconds"
    with pytest.raises(UserError, match=f"no run has the metric 'score'; {there}"):
        plots.plot_runs([path], tmp_path / "out", ["score"])
    with pytest.raises(UserError, match=f"none of the metrics drawn by default.*{there}"):
        plots.plot_runs([path], tmp_path / "out")
    with pytest.raises(UserError, match=f"no run has entropy by labels; {there}"):
        plots.plot_runs([path], tmp_path / "out", ["entropy"], x="labels")
    with pytest.raises(UserError, match="unknown x axis 'steps'"):
        plots.plot_runs([path], tmp_path / "out", x="steps")
    assert not list(tmp_path.glob("out*"))


# -- groups side by side


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


def test_the_figures_of_an_experiment(tmp_path: Path) -> None:
    rewards = {"true_reward": list(np.linspace(0, 1, 12)), "reward_mean": list(np.linspace(0, 2, 12))}
    curves = [
        replace(plots.load_curves([finetuning(tmp_path / f"{n}-{s}", replace(ONE, seed=s), **rewards)])[0], group=n)
        for n in ("first", "second with a long name that goes over lines", "third costs $3", "fourth", "fifth")
        for s in range(2)
    ]
    scores = {"score": {c.group: np.array([1.0, 2.0]) for c in curves}, "accuracy": {"first": np.array([0.9, 0.8])}}
    check_figure(*plots.plot_groups(scores, tmp_path / "groups"))
    check_figure(*plots.plot_each_group(curves, "score", tmp_path / "each"))
    check_figure(*plots.plot_overoptimisation(curves, tmp_path / "rewards", smooth=3))
    check_figure(*plots.plot_each_group(curves[:1], "score", tmp_path / "alone"))


# -- the figure of one run


def test_crowded_rounds_keep_the_last() -> None:
    assert plots._spread(np.array([0.0, 4, 8, 12, 16]), 5) == [0, 2, 4]
    assert plots._spread(np.array([0.0, 4, 8, 12]), 5) == [1, 3]


def test_the_figure_of_a_run(tmp_path: Path) -> None:
    path = finetuning(tmp_path / "run")
    written = plots.plot_finetune(path)
    assert written == [path / "curves.png", path / "curves.pdf"]
    check_figure(*written)
    with Image.open(written[0]) as image:
        assert image.width == 7 * 150


@pytest.mark.parametrize(
    "values",
    [
        {"score": [1.0]},  # one iteration
        {"kl_start": [0.0, 0.1, 0.2], "beta": [0.01, 0.1, 1.0]},  # an adaptive beta over decades
        {"kl_start": [0.0, 0.1, 0.2], "beta": [0.0, 0.0, 0.0], "reward/fresh_accuracy": [0.1, None, 0.2]},
        {"beta": [0.02, 0.03], "labels": [5000, 100000]},
        {"reward_mean": [1.0, 1.0]},  # nothing to draw
    ],
)
def test_the_figure_of_a_run_with_gaps(tmp_path: Path, values: dict[str, list[float | None]]) -> None:
    check_figure(*plots.plot_finetune(make_run(tmp_path / "run", ONE, values), tmp_path / "figure"))


def test_a_pretraining_run_has_another_figure(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", PretrainConfig("HalfCheetah-v5"), {"env_return": [1.0, 2.0]})
    with pytest.raises(UserError, match="is a pretrain run; use `rlhf-control plot"):
        plots.plot_finetune(path)


def test_figures_can_be_made_in_a_thread(tmp_path: Path) -> None:
    """No pyplot: nothing global, and no window."""
    path = finetuning(tmp_path / "run")
    thread = threading.Thread(target=plots.plot_finetune, args=(path,))
    thread.start()
    thread.join()
    assert (path / "curves.pdf").exists()
    code = "import sys, rlhf_control.analysis.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_run_without_a_score_shows_the_learned_reward_instead(tmp_path: Path, monkeypatch: Any) -> None:
    """Of people's answers, say: no panel is empty."""
    drawn = []
    monkeypatch.setattr(plots, "_line", lambda ax, curve, metric, *_: drawn.append((metric, ax.get_ylabel())))
    values: dict[str, list[float | None]] = {"env_return": [1.0, 2.0], "reward_mean": [0.0, 1.0], "labels": [9.0, 9.0]}
    monkeypatch.setattr(plots, "save_figure", lambda *_: [])
    plots.plot_finetune(make_run(tmp_path / "a", replace(ONE, oracle="human"), values))
    assert drawn[0] == ("reward_mean", "learned reward (per step)")
