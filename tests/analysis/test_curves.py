"""Curves and bands, on small synthetic runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.analysis import curves as lib
from rlhf_control.config import PretrainConfig, ReferenceConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.run import Run
from tests.synthetic_runs import ONE, finetuning, make_run

# -- numbers


# -- runs


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path: Path) -> None:
    paths = [
        finetuning(tmp_path / f"{labels}-{seed}", replace(ONE, labels=labels, seed=seed, out=f"o{labels}{seed}"))
        for labels in (100, 1200)
        for seed in (0, 1)
    ]
    curves = lib.load_curves(paths)
    assert [c.group for c in curves] == 2 * ["finetune backward, 100 labels"] + 2 * ["finetune backward, 1,200 labels"]
    assert [c.seed for c in curves] == [0, 1, 0, 1]
    assert {(c.command, c.env, c.behaviour) for c in curves} == {("finetune", "HalfCheetah-v5", "backward")}
    np.testing.assert_array_equal(curves[0].steps, 100 * np.arange(1, 13))
    assert lib.groups_of(curves) == ["finetune backward, 100 labels", "finetune backward, 1,200 labels"]
    assert {c.group for c in lib.load_curves(paths[:2])} == {"finetune backward"}


def test_a_group_is_named_by_what_sets_it_apart(tmp_path: Path) -> None:
    adaptive = replace(ONE, reference=ReferenceConfig(target=0.1))
    flat = replace(ONE, ppo=replace(ONE.ppo, lr=0.001, normalize_advantage=False))
    paths = [
        finetuning(tmp_path / "a"),
        finetuning(tmp_path / "b", adaptive),
        finetuning(tmp_path / "c", flat),
        make_run(tmp_path / "d", PretrainConfig("HalfCheetah-v5"), {"env_return": [1.0, 2.0]}),
    ]
    assert [c.group for c in lib.load_curves(paths)] == [
        "finetune backward, ppo.lr 0.0003, ppo.normalize_advantage true",
        "finetune backward, reference.target 0.1, ppo.lr 0.0003, ppo.normalize_advantage true",
        "finetune backward, ppo.lr 0.001, ppo.normalize_advantage false",
        "pretrain HalfCheetah-v5",
    ]


def test_fields_can_be_ignored(tmp_path: Path) -> None:
    """Paired seeds: each starts from a pretrained policy of its own."""
    paths = [finetuning(tmp_path / f"{s}", replace(ONE, policy=f"runs/pre-{s}", seed=s)) for s in (0, 1)]
    assert len(lib.groups_of(lib.load_curves(paths))) == 2
    assert len(lib.groups_of(lib.load_curves(paths, ignore=["policy"]))) == 1


def test_the_same_run_is_not_counted_twice(tmp_path: Path) -> None:
    a, b = finetuning(tmp_path / "a"), finetuning(tmp_path / "b")
    assert len(lib.load_curves([a, str(a), a])) == 1
    with pytest.raises(UserError, match=r"same config and the same seed \(0\); leave one out"):
        lib.load_curves([a, b])


def test_folders_without_curves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to plot"):
        lib.load_curves([])
    with pytest.raises(UserError, match="not a run's folder"):
        lib.load_curves([tmp_path])
    empty = Run.create(tmp_path / "empty", "finetune", ONE)
    with pytest.raises(UserError, match="no metrics yet"):
        lib.load_curves([empty.path])
    finetuning(tmp_path / "damaged")
    (tmp_path / "damaged/config.json").write_text("{")
    with pytest.raises(CorruptFileError):
        lib.load_curves([tmp_path / "damaged"])


def test_rows_without_a_number_are_skipped(tmp_path: Path) -> None:
    values: dict[str, list[Any]] = {"score": [None, 1.0, float("nan"), 3.0], "never": [None, None, "text", None]}
    [curve] = lib.load_curves([make_run(tmp_path / "a", ONE, values)])
    x, y = curve.series("score")
    np.testing.assert_array_equal(x, [200, 400])
    np.testing.assert_array_equal(y, [1, 3])
    assert lib.metrics_of([curve]) == ["score", "wall_seconds"]
    assert len(curve.series("never")[0]) == 0


def test_by_labels_the_last_row_of_each_count_stands(tmp_path: Path) -> None:
    values: dict[str, list[float | None]] = {"score": [1, 2, 3, 4, None], "labels": [20, 20, 60, 60, 60]}
    [curve] = lib.load_curves([make_run(tmp_path / "a", ONE, values)])
    x, y = curve.series("score", "labels")
    np.testing.assert_array_equal(x, [20, 60])
    np.testing.assert_array_equal(y, [2, 4])


# -- bands


def test_ragged_runs_are_compared_where_all_have_been(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / f"{seed}", replace(ONE, seed=seed), {"score": [float(seed)] * length, "kl": [0.0] * 4})
        for seed, length in enumerate((4, 3, 4))
    ]
    curves = lib.load_curves(paths)
    [band] = lib.aggregate(curves, "score", np.random.default_rng(0))
    assert band.runs == 3
    np.testing.assert_array_equal(band.x, [100, 200, 300])
    np.testing.assert_array_equal(band.iqm, [1, 1, 1])
    np.testing.assert_array_equal(band.low, [0, 0, 0])  # three runs: from the lowest to the highest
    np.testing.assert_array_equal(band.high, [2, 2, 2])


def test_runs_without_a_common_range_are_refused(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", ONE, {"score": [1.0, 2.0], "kl": [0.0] * 3})
    b = make_run(tmp_path / "b", replace(ONE, seed=1), {"score": [None, None, 3.0]})
    with pytest.raises(UserError, match=r"share no range of env_steps for score; try without .*/a"):
        lib.aggregate(lib.load_curves([a, b]), "score", np.random.default_rng(0))


def test_smoothing_only_where_asked(tmp_path: Path) -> None:
    curves = lib.load_curves([make_run(tmp_path / "a", ONE, {"score": [0.0, 3.0, 6.0, 0.0]})])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(lib.aggregate(curves, "score", rng)[0].iqm, [0, 3, 6, 0])
    np.testing.assert_allclose(lib.aggregate(curves, "score", rng, smooth=3)[0].iqm, [1.5, 3, 3, 3])
    with pytest.raises(UserError, match="smooth is 0"):
        lib.aggregate(curves, "score", rng, smooth=0)
    with pytest.raises(UserError, match="unknown x axis 'env_step'; did you mean env_steps"):
        lib.aggregate(curves, "score", rng, x="env_step")


def test_the_summary_is_of_final_values(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / f"{seed}", replace(ONE, seed=seed), {"score": [99.0, float(seed)]}) for seed in range(3)
    ]
    other = make_run(tmp_path / "other", replace(ONE, oracle="prowl"), {"score": [0.25]})
    none = make_run(tmp_path / "none", replace(ONE, oracle="env"), {"entropy": [0.25]})
    assert lib.summary_table([*paths, other, none]) == lib.summary_table([*paths, other, none], "score")
    assert "| entropy at the end" in lib.summary_table([none])
    assert lib.summary_table([*paths, other, none], "score").splitlines() == [
        "| group | runs | score at the end, IQM | 95 % interval |",
        "|---|---:|---:|---:|",
        "| finetune backward | 3 | 1 | 0 to 2 |",
        "| finetune prowl | 1 | 0.25 | – |",
    ]
    with pytest.raises(UserError, match="no run has the metric 'scores'; there are: entropy, score, wall_seconds"):
        lib.summary_table([*paths, none], "scores")


WHOLE = replace(ONE, total_steps=1000, ppo=replace(ONE.ppo, num_envs=2, num_steps=50))


def test_runs_that_stopped_or_went_nan_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not counted with the value they had by then; nor do they cut the others' curve."""
    lib.say_once.cache_clear()
    scores: dict[str, list[float | None]] = {
        "a": [390.0] * 10, "b": [390.0] * 10, "killed": [30.0], "nan": [390.0] * 8 + [None] * 2
    }  # fmt: skip
    paths = [make_run(tmp_path / n, replace(WHOLE, seed=i), {"score": s}) for i, (n, s) in enumerate(scores.items())]
    assert "| finetune backward | 2 | 390 | 390 to 390 |" in lib.summary_table(paths)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"rlhf-control: {tmp_path / 'killed'} is left out: it stopped at 100 of 1,000 steps",
        f"rlhf-control: {tmp_path / 'nan'} is left out: its score is not finite at the end, at 1,000 of 1,000 steps",
    ]
    [band] = lib.aggregate(lib.load_curves(paths), "score", np.random.default_rng(0))
    assert band.runs == 2 and band.x[-1] == 1000
    with pytest.raises(UserError, match="no run is left"):
        lib.summary_table([paths[3]])


def test_while_no_run_has_finished_the_last_common_step_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lib.say_once.cache_clear()
    paths = [
        make_run(
            tmp_path / f"{i}", replace(WHOLE, total_steps=2000, seed=i), {"score": [float(i + k) for k in range(n)]}
        )
        for i, n in enumerate((10, 9, 2))
    ]
    assert lib.summary_table(paths).splitlines()[2] == "| finetune backward | 2 | 8.5 | 8 to 9 |"
    assert "no run of 'finetune backward' has finished: its score is that at 900 of 2,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"env_return": None, "episode_length": None, "reward/heldout_loss": None, "value_loss": 1.0}, ""),
        ({"env_return": None, "episode_length": 7.0}, "env_return"),
        ({"value_loss": None}, "value_loss"),
        ({"score": float("nan")}, "score"),
    ],
)
def test_what_is_unknown_is_not_lost(row: dict, lost: str) -> None:
    assert lib.lost_metric(row) == lost


def test_options_that_change_no_number_split_no_curve(tmp_path: Path) -> None:
    others = [
        replace(ONE, seed=1, video=False),
        replace(ONE, seed=2, checkpoint_seconds=99.0),
        replace(ONE, seed=3, window=False),
    ]
    paths = [finetuning(tmp_path / f"{c.seed}", c) for c in (ONE, *others)]
    assert {c.group for c in lib.load_curves(paths)} == {"finetune backward"}


def test_curves_can_be_named(tmp_path: Path) -> None:
    paths = [finetuning(tmp_path / f"{n}", replace(ONE, labels=n)) for n in (100, 200)]
    assert lib.groups_of(lib.renamed(lib.load_curves(paths), ["few", "many"])) == ["few", "many"]
    assert "| many | 1 |" in lib.summary_table(paths, names=["few", "many"])
    for names in (["few"], ["few", "few"]):
        with pytest.raises(UserError, match=r"names for 2 curves; give each its own, in this order: .*100 labels"):
            lib.summary_table(paths, names=names)


def test_label_rounds_are_where_the_answers_grow(tmp_path: Path) -> None:
    [curve] = lib.load_curves([finetuning(tmp_path / "run")])
    steps, labels = lib.label_rounds(curve)
    np.testing.assert_array_equal(steps, [100, 400, 700])
    np.testing.assert_array_equal(labels, [20, 60, 100])
