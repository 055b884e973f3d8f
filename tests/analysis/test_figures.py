"""Curves, bands and figures, on small synthetic runs."""

import csv
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlhf_control.analysis import figures as plots
from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from tests.synthetic_runs import ONE, finetuning, make_run

# -- drawing


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    paths = [finetuning(tmp_path / name, replace(ONE, policy=f"runs/${name}$_{{")) for name in "ab"]
    assert plots.load_curves(paths)[0].group == "finetune backward, policy runs/$a$_{"
    check_figure(*plots.plot_runs(paths, tmp_path / "out", ["score"])[:2])


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
