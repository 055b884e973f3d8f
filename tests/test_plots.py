"""Curves, bands and figures, on small synthetic runs."""

import csv
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rlhf_control import plots
from rlhf_control.config import FinetuneConfig, PretrainConfig, ReferenceConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs import Run

ONE = FinetuneConfig("halfcheetah", oracle="backward", labels=100)


def make_run(
    path: Path, config: Any, values: dict[str, list[float | None]], steps: int = 100, env_id: str = "HalfCheetah-v5"
) -> Path:
    """A run's folder whose metrics are `values`, a row each `steps` env steps."""
    verb = "finetune" if isinstance(config, FinetuneConfig) else "pretrain"
    run = Run(path)
    run.write_json("config.json", {"verb": verb, "config": asdict(config)})
    run.write_json("manifest.json", {"verb": verb, "seed": config.seed, "env_id": env_id})
    for i in range(max(map(len, values.values()))):
        row = {name: column[i] for name, column in values.items() if i < len(column)}
        run.log({"iteration": i, "env_steps": (i + 1) * steps, "wall_seconds": 0.5 * i, **row})
    return path


def finetuning(path: Path, config: FinetuneConfig = ONE, iterations: int = 12, **more: list[float | None]) -> Path:
    """A run with everything that a fine-tuning run reports; rounds at rows 0, 3 and 6."""
    rng = np.random.default_rng(config.seed)
    i = np.arange(iterations)
    asked = {0: 20, 3: 60, 6: 100}
    values: dict[str, list[float | None]] = {
        "score": list(i + rng.normal(0, 0.1, iterations)),
        "env_return": [float(-100 * k) if k % 2 else None for k in i],
        "labels": [float(max(n for at, n in asked.items() if at <= k)) for k in i],
        "kl_start": list(0.1 * i),
        "beta": [0.02] * iterations,
        "reward/heldout_accuracy": [0.6 + k / 20 if k in asked else None for k in i],
        "reward/fresh_accuracy": [0.4 + k / 20 if k in asked and k else None for k in i],
    }
    return make_run(path, config, values | more)


# -- numbers


def test_the_interquartile_mean_drops_a_quarter_on_each_side() -> None:
    assert plots.interquartile_mean(np.array([8.0, 1, 100, 3, 4, 5, 6, -50])) == (3 + 4 + 5 + 6) / 4
    assert plots.interquartile_mean(np.array([1.0, 2, 9])) == 4  # floor(3 / 4) = 0: the mean
    assert plots.interquartile_mean(np.array([9.0, 1, 2, 3, 4])) == 3  # floor(5 / 4) = 1, as in scipy and rliable


def test_the_interquartile_mean_goes_along_an_axis() -> None:
    x = np.array([[0.0, 10, 20, 1000], [4, 3, 2, 1]])
    np.testing.assert_array_equal(plots.interquartile_mean(x, axis=1), [15, 2.5])
    np.testing.assert_array_equal(plots.interquartile_mean(x, axis=0), [2, 6.5, 11, 500.5])
    with pytest.raises(ValueError, match="nothing"):
        plots.interquartile_mean(np.empty((0, 3)))


def test_the_bootstrap_is_its_generators_and_holds_the_estimate() -> None:
    scores = np.random.default_rng(1).normal(5, 2, (10, 7))
    low, high = plots.bootstrap_interval(scores, np.random.default_rng(0))
    again = plots.bootstrap_interval(scores, np.random.default_rng(0))
    np.testing.assert_array_equal((low, high), again)
    assert low.shape == high.shape == (7,)
    middle = plots.interquartile_mean(scores)
    assert ((low < middle) & (middle < high)).all()
    assert not np.array_equal(low, plots.bootstrap_interval(scores, np.random.default_rng(2))[0])
    one_x = plots.bootstrap_interval(scores[:, 0], np.random.default_rng(0))
    np.testing.assert_array_equal(one_x, (low[0], high[0]))  # the same runs are drawn at every x


def test_the_bootstrap_of_two_runs_by_hand() -> None:
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: the 95 % interval is all of it,
    # and the middle 40 % are all 1/2.
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(plots.bootstrap_interval(np.array([0.0, 1.0]), rng), (0, 1))
    np.testing.assert_array_equal(plots.bootstrap_interval(np.array([0.0, 1.0]), rng, level=0.4), (0.5, 0.5))


def test_one_run_has_no_interval() -> None:
    low, high = plots.bootstrap_interval(np.ones((1, 4)), np.random.default_rng(0))
    assert low.shape == high.shape == (4,) and np.isnan(low).all() and np.isnan(high).all()
    with pytest.raises(ValueError, match="shape"):
        plots.bootstrap_interval(np.empty((0, 4)), np.random.default_rng(0))


def test_the_moving_mean_by_hand() -> None:
    np.testing.assert_allclose(plots.moving_mean(np.array([0.0, 3, 6, 0]), 3), [1.5, 3, 3, 3])
    np.testing.assert_allclose(plots.moving_mean(np.array([0.0, 4]), 9), [2, 2])
    np.testing.assert_array_equal(plots.moving_mean(np.array([1.0, 5, 2]), 1), [1, 5, 2])


def test_a_common_grid_lies_where_all_runs_were_measured() -> None:
    a = np.array([10.0, 20, 30, 40]), np.array([1.0, 2, 3, 4])
    b = np.array([15.0, 25, 35]), np.array([0.0, 10, 20])
    grid, scores = plots.on_common_grid([a, b])
    np.testing.assert_array_equal(grid, [15, 20, 30, 35])  # both ends, and where `a` has fewer points than `b`
    np.testing.assert_allclose(scores[0], [1.5, 2, 3, 3.5])
    np.testing.assert_allclose(scores[1], [0, 5, 15, 20])
    grid, scores = plots.on_common_grid([a, a])
    np.testing.assert_array_equal(grid, a[0])
    np.testing.assert_array_equal(scores, [a[1], a[1]])
    assert len(plots.on_common_grid([a, (np.array([50.0]), np.array([1.0]))])[0]) == 0


# -- runs


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path: Path) -> None:
    paths = [
        finetuning(tmp_path / f"{labels}-{seed}", replace(ONE, labels=labels, seed=seed, out=f"o{labels}{seed}"))
        for labels in (100, 1200)
        for seed in (0, 1)
    ]
    curves = plots.load_curves(paths)
    assert [c.group for c in curves] == 2 * ["finetune backward, 100 labels"] + 2 * ["finetune backward, 1,200 labels"]
    assert [c.seed for c in curves] == [0, 1, 0, 1]
    assert {(c.verb, c.env, c.behaviour) for c in curves} == {("finetune", "HalfCheetah-v5", "backward")}
    np.testing.assert_array_equal(curves[0].steps, 100 * np.arange(1, 13))
    assert plots.groups_of(curves) == ["finetune backward, 100 labels", "finetune backward, 1,200 labels"]
    assert {c.group for c in plots.load_curves(paths[:2])} == {"finetune backward"}


def test_a_group_is_named_by_what_sets_it_apart(tmp_path: Path) -> None:
    adaptive = replace(ONE, reference=ReferenceConfig(target=0.1))
    flat = replace(ONE, ppo=replace(ONE.ppo, lr=0.001, normalize_advantage=False))
    paths = [
        finetuning(tmp_path / "a"),
        finetuning(tmp_path / "b", adaptive),
        finetuning(tmp_path / "c", flat),
        make_run(tmp_path / "d", PretrainConfig("HalfCheetah-v5"), {"env_return": [1.0, 2.0]}),
    ]
    assert [c.group for c in plots.load_curves(paths)] == [
        "finetune backward, ppo.lr 0.0003, ppo.normalize_advantage true",
        "finetune backward, reference.target 0.1, ppo.lr 0.0003, ppo.normalize_advantage true",
        "finetune backward, ppo.lr 0.001, ppo.normalize_advantage false",
        "pretrain HalfCheetah-v5",
    ]


def test_fields_can_be_ignored(tmp_path: Path) -> None:
    """Paired seeds: each starts from a pretrained policy of its own."""
    paths = [finetuning(tmp_path / f"{s}", replace(ONE, policy=f"runs/pre-{s}", seed=s)) for s in (0, 1)]
    assert len(plots.groups_of(plots.load_curves(paths))) == 2
    assert len(plots.groups_of(plots.load_curves(paths, ignore=["policy"]))) == 1


def test_the_same_run_is_not_counted_twice(tmp_path: Path) -> None:
    a, b = finetuning(tmp_path / "a"), finetuning(tmp_path / "b")
    assert len(plots.load_curves([a, str(a), a])) == 1
    with pytest.raises(UserError, match=r"same config and the same seed \(0\); leave one out"):
        plots.load_curves([a, b])


def test_folders_without_curves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to plot"):
        plots.load_curves([])
    with pytest.raises(UserError, match="not a run's folder"):
        plots.load_curves([tmp_path])
    empty = Run.create(tmp_path / "empty", "finetune", ONE)
    with pytest.raises(UserError, match="no metrics yet"):
        plots.load_curves([empty.path])
    finetuning(tmp_path / "damaged")
    (tmp_path / "damaged/config.json").write_text("{")
    with pytest.raises(CorruptFileError):
        plots.load_curves([tmp_path / "damaged"])


def test_rows_without_a_number_are_skipped(tmp_path: Path) -> None:
    values: dict[str, list[Any]] = {"score": [None, 1.0, float("nan"), 3.0], "never": [None, None, "text", None]}
    [curve] = plots.load_curves([make_run(tmp_path / "a", ONE, values)])
    x, y = curve.series("score")
    np.testing.assert_array_equal(x, [200, 400])
    np.testing.assert_array_equal(y, [1, 3])
    assert plots.metrics_of([curve]) == ["score", "wall_seconds"]
    assert len(curve.series("never")[0]) == 0


def test_by_labels_the_last_row_of_each_count_stands(tmp_path: Path) -> None:
    values: dict[str, list[float | None]] = {"score": [1, 2, 3, 4, None], "labels": [20, 20, 60, 60, 60]}
    [curve] = plots.load_curves([make_run(tmp_path / "a", ONE, values)])
    x, y = curve.series("score", "labels")
    np.testing.assert_array_equal(x, [20, 60])
    np.testing.assert_array_equal(y, [2, 4])


# -- bands


def test_ragged_runs_are_compared_where_all_have_been(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / f"{seed}", replace(ONE, seed=seed), {"score": [float(seed)] * length})
        for seed, length in enumerate((5, 3, 4))
    ]
    curves = plots.load_curves(paths)
    [band] = plots.aggregate(curves, "score", np.random.default_rng(0))
    assert band.runs == 3
    np.testing.assert_array_equal(band.x, [100, 200, 300])
    np.testing.assert_array_equal(band.iqm, [1, 1, 1])
    np.testing.assert_array_equal(band.low, [0, 0, 0])  # three runs: from the lowest to the highest
    np.testing.assert_array_equal(band.high, [2, 2, 2])


def test_runs_without_a_common_range_are_refused(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", ONE, {"score": [1.0, 2.0]})
    b = make_run(tmp_path / "b", replace(ONE, seed=1), {"score": [None, None, 3.0]})
    with pytest.raises(UserError, match=r"share no range of env_steps for score; try without .*/a"):
        plots.aggregate(plots.load_curves([a, b]), "score", np.random.default_rng(0))


def test_smoothing_only_where_asked(tmp_path: Path) -> None:
    curves = plots.load_curves([make_run(tmp_path / "a", ONE, {"score": [0.0, 3.0, 6.0, 0.0]})])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(plots.aggregate(curves, "score", rng)[0].iqm, [0, 3, 6, 0])
    np.testing.assert_allclose(plots.aggregate(curves, "score", rng, smooth=3)[0].iqm, [1.5, 3, 3, 3])
    with pytest.raises(UserError, match="smooth is 0"):
        plots.aggregate(curves, "score", rng, smooth=0)
    with pytest.raises(UserError, match="unknown x axis 'env_step'; did you mean env_steps"):
        plots.aggregate(curves, "score", rng, x="env_step")


def test_the_summary_is_of_final_values(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / f"{seed}", replace(ONE, seed=seed), {"score": [99.0, float(seed), None]})
        for seed in range(3)
    ]
    other = make_run(tmp_path / "other", replace(ONE, oracle="prowl"), {"score": [0.25]})
    none = make_run(tmp_path / "none", replace(ONE, oracle="env"), {"entropy": [0.25]})
    assert plots.summary_table([*paths, other, none]) == plots.summary_table([*paths, other, none], "score")
    assert "| entropy at the end" in plots.summary_table([none])
    assert plots.summary_table([*paths, other, none], "score").splitlines() == [
        "| group | runs | score at the end, IQM | 95 % interval |",
        "|---|---:|---:|---:|",
        "| finetune backward | 3 | 1 | 0 to 2 |",
        "| finetune prowl | 1 | 0.25 | – |",
    ]
    with pytest.raises(UserError, match="no run has the metric 'scores'; there are: entropy, score, wall_seconds"):
        plots.summary_table([*paths, none], "scores")


# -- drawing


def test_a_group_keeps_its_look_where_others_are_missing(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "a", ONE, {"entropy": [1.0, 2.0]})]
    paths += [finetuning(tmp_path / f"b{s}", replace(ONE, labels=50, seed=s)) for s in (0, 1)]
    curves = plots.load_curves(paths)
    ax = Figure().subplots()
    assert plots.plot_curves(ax, curves, "score", np.random.default_rng(0)) is ax
    [line] = ax.get_lines()
    assert line.get_color() == plots.VERMILLION  # the second group's
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
    plots.plot_curves(ax, curves, "entropy", np.random.default_rng(0), legend=False)
    assert not ax.collections and ax.get_legend() is None  # one run: a plain line


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    paths = [finetuning(tmp_path / name, replace(ONE, policy=f"runs/${name}$_{{")) for name in "ab"]
    assert plots.load_curves(paths)[0].group == "finetune backward, policy runs/$a$_{"
    check_figure(*plots.plot_runs(paths, tmp_path / "out", ["score"])[:2])


def test_neighbouring_groups_differ_without_colour() -> None:
    looks = [plots._look(i) for i in range(28)]
    assert len({str(look) for look in looks}) == 28
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(looks))


def test_the_style_stays_within() -> None:
    before = dict(matplotlib.rcParams)
    with plots.style():
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
    code = "import sys; from rlhf_control.plots import plot_runs; plot_runs([sys.argv[1]], sys.argv[2], ['score'])"
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


# -- the figure of one run


def test_label_rounds_are_where_the_answers_grow(tmp_path: Path) -> None:
    [curve] = plots.load_curves([finetuning(tmp_path / "run")])
    steps, labels = plots.label_rounds(curve)
    np.testing.assert_array_equal(steps, [100, 400, 700])
    np.testing.assert_array_equal(labels, [20, 60, 100])


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
    code = "import sys, rlhf_control.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
