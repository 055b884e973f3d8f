"""What the arms of the experiments about labels promise, and their arithmetic."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import env_reward
from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.data import Query, Segments
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.oracles import RewardOracle
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.run import Run
from tests.conftest import random_segments

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import behaviours
import common
import feedback
import label_parts
import label_table
import overoptimisation
import refits

# -- shares


def test_the_share_of_all_seeds_together_by_hand() -> None:
    """The oracle gains 1, 2 and 3, the votes 1, 1 and 1: half of it; of seeds alone from a third to all."""
    found = label_table.together([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [2.0, 4.0, 6.0])
    assert found == pytest.approx({"share": 0.5, "low": 1 / 3, "high": 1.0})
    lost = label_table.together([1.0, 1.0], [2.0, 2.0], [0.0, 3.0])  # one sample of four has no gain
    assert lost == {"share": 2.0, "low": None, "high": None}


def test_a_row_without_an_interval_is_told_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = label_table.together([0.0, 0.0], [1.0, 1.0], [2.0, 2.0])
    of = {"oracle": whole, "20": {"share": 2.0, "low": None, "high": None}, "100": whole}
    found = {"together": of, "with noise": {"together": {}}, "no room": 1, "seeds": [0, 1]}
    label_table.tell("Ant", found)
    assert "20: 2.00 (no interval); 100: 0.50 (0.50 to 0.50)\n" in capsys.readouterr().out
    label_table.draw({"Ant": found}, tmp_path / "row")
    assert (tmp_path / "row.png").is_file()


def test_rows_of_two_processors_are_shared_out_together_by_hand() -> None:
    """One gains 1 of 2, the other 3 of 2: together all of it; an arm that one of them lacks is left out."""
    one = {"before": [0.0], "returns": {"oracle": [2.0], "100": [1.0], "20": [9.0]}}
    other = {"before": [1.0], "returns": {"oracle": [3.0], "100": [4.0]}}
    found = label_table.of_both(one, other)
    assert found.keys() == {"oracle", "100"}
    assert found["100"] == pytest.approx({"share": 1.0, "low": 0.5, "high": 1.5})


def test_a_return_with_noise_is_measured_once_and_kept_beside_that_of_the_start(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "finetune", FinetuneConfig("halfcheetah"))
    policy = find_policy("halfcheetah")
    for name in ("policy", "pretrained"):
        policy.save(run.path / f"{name}.npz")
    config = FinetuneConfig("halfcheetah", out=str(run.path))
    found = label_table.with_noise(config)
    assert 1500 < found < 3000  # 2,600 or so without
    assert label_table.with_noise(config, "pretrained.npz") == found  # the same policy, seeds and noise
    (run.path / "policy.npz").unlink()
    assert label_table.with_noise(config) == found
    assert {path.name for path in run.path.glob("noisy-*")} == {"noisy-policy.json", "noisy-pretrained.json"}


def test_a_result_goes_on_with_parts_of_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "continued.json"
    assert common.earlier(path, "tasks", {"steps": 10}) == {}
    path.write_text('{"steps": 10, "tasks": {"Hopper-v5": {"seeds": [0]}}}')
    assert common.earlier(path, "tasks", {"steps": 10}) == {"Hopper-v5": {"seeds": [0]}}
    assert common.earlier(path, "tasks", {"steps": 20}) == {}


# -- what saves labels, part by part


def test_each_arm_departs_from_ours_in_what_it_is_named_by() -> None:
    ours = FinetuneConfig("halfcheetah", oracle="env", out="x")
    runs = {name: label_parts.arm(name, ours) for name in label_parts.ARMS}
    assert runs.pop("ours") == ours
    assert len({run.out for run in runs.values()}) == len(runs) and all(run.out != "x" for run in runs.values())
    christiano = runs["Christiano et al."]
    assert christiano.reward.members == 3 and christiano.guard.chance == "off" and christiano.reward.lapse == 0.1
    assert replace(runs["no anchor"], out="x", reference=ours.reference) == ours
    assert runs["all answers at the start"].labels_by_round() == [100]


def test_what_one_set_of_options_loses_by_hand() -> None:
    """The best of each task are 1.0 and 0.9; `b` is best over both (0.8), ours has 0.7."""
    shares = {"one": {"ours": 1.0, "b": 0.7}, "other": {"ours": 0.4, "b": 0.9}}
    assert label_parts.sensitivity(shares) == pytest.approx({"sensitivity": 0.15, "ours": 0.25})


def test_arms_that_are_alike_lose_nothing_but_what_seeds_do() -> None:
    """Of arms that are equal seed by seed nothing is lost, however they are shuffled; where a seed sets them apart,
    the best of two has it all, and ours is that in half of the shuffles."""
    alike = {"t": {"before": [0.0], "oracle": [1.0], "returns": {"ours": [0.5], "b": [0.5]}}}
    assert label_parts.by_chance(alike, np.random.default_rng(0), 9)["ours"] == {"mean": 0.0, "high": 0.0}
    apart = {"t": {"before": [0.0], "oracle": [1.0], "returns": {"ours": [0.0], "b": [1.0]}}}
    chance = label_parts.by_chance(apart, np.random.default_rng(0), 400)
    assert chance["sensitivity"] == {"mean": 0.0, "high": 0.0}  # of one task the best arm is the best over all
    assert chance["ours"]["mean"] == pytest.approx(0.5, abs=0.1) and chance["ours"]["high"] == 1.0


# -- what the alarm would have said


def test_an_alarm_is_read_off_the_rows_of_a_run() -> None:
    """Fitted at an uncertainty of 0.2; from the second on it is 0.7, so in the eleventh row for a window of ten."""
    rows: list[dict] = [
        {"guard/uncertainty": 0.7 if i else 0.2, "reward_mean": float(i), "kl_start": 3.0, "kl_reference": 1.3}
        for i in range(20)
    ]
    rows[0] |= {"reward/fit_seconds": 1.0, "reward/uncertainty": 0.2}
    found = common.alarm(rows, GuardConfig(), line=False)
    assert found is not None and found[0] == 9 and "0.7 of its standard deviations" in found[1]  # the median of nine
    assert common.alarm(rows, GuardConfig(uncertainty_jump=1.5), line=False) is None  # from 0.75 on
    assert common.alarm([row | {"kl_reference": 1.2} for row in rows], GuardConfig(), line=False) is None
    assert common.alarm([row | {"guard/holding": 1.0} for row in rows], GuardConfig(), line=False) is None
    rows[3]["guard/event"] = "the learned reward rose, but it predicts 0 of the 4 newest answers"
    assert common.alarm(rows, GuardConfig(), line=False) == (3, rows[3]["guard/event"])


# -- behaviours


def test_behaviours_are_fourteen_and_start_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviours, "bolder", lambda policy: -1.0)
    assert len(behaviours.NAMES) == 14 and {*behaviours.KEEP, *behaviours.FEWER} <= {*behaviours.NAMES}
    places = Namespace(runs=Path("runs"), starts=Path("starts"))
    jump, stand = (behaviours.config(name, "100 votes", 3, places) for name in ("jump", "stand"))
    assert (jump.policy, jump.termination, jump.shrink) == ("halfcheetah", "refuse", 0.1)
    assert (stand.policy, stand.termination) == ("starts/Walker2d-v5-pretrained-200000-3", "penalty")
    backflip = behaviours.config("backflip", "50 votes", 3, places)
    assert (backflip.termination, backflip.shrink, backflip.labels) == ("fixed-horizon", 0.1, 50)
    crouch = behaviours.config("crouch", "coin flips", 3, places)
    assert (crouch.shrink, crouch.min_log_std, crouch.oracle, crouch.score) == (1.0, -1.0, "coin-flip", "crouch")
    assert crouch.guard == GuardConfig(chance="off", alarm="off")


# -- over-optimisation


def test_rewards_and_anchors_cross_and_differ_in_nothing_else() -> None:
    every = overoptimisation.conditions(feedback.BASE)
    assert len(every) == 9 and {c.annotator.mistake for c in every.values()} == {0.25}
    assert all(c.labels_by_round() == [100] for c in every.values())
    first = every["mean, beta 0"]
    lowest = every["lowest, beta 0.1"]
    assert replace(lowest, reward=first.reward, reference=first.reference) == first
    assert (lowest.reward.combine, lowest.reference.beta) == ("worst-case", 0.1)


# -- answers learned from anew


def test_the_rounds_of_a_run_and_what_came_next(tmp_path) -> None:
    """Three rounds of two, three and one questions: of the last nothing comes next."""
    labels = Labels(FeedbackStore(tmp_path / "labels.sqlite", create=True), RewardOracle(env_reward, "oracle"), 0)
    rng = np.random.default_rng(0)
    for k, questions in enumerate((2, 3, 1)):
        queries = [Query(k, i, "uniform", random_segments(rng, 2, 5)) for i in range(questions)]
        labels.ask(queries, Segments.stack([query.segments[0] for query in queries]))
    found = refits.rounds_of(tmp_path)
    sizes = [(len(answers), len(past), len(coming)) for answers, past, coming in found]
    assert sizes == [(2, 4, 6), (5, 10, 2)]
    kept = labels.answers()
    assert kept is not None and found[1][0].clips.digest() == kept.clips[np.arange(10)].digest()


def test_refits_are_told_by_task_way_and_answers() -> None:
    rows = [
        {"task": "A", "oracle": "env", "way": way, "answers": answers, "clips": clips, "seed": seed}
        for seed in range(2)
        for way, answers, clips in (("line", 20, 1.0), ("line", 90, 0.5), ("networks", 20, 0.25))
    ]
    cells = [row[2:] for row in refits.table_of(rows)]
    assert cells == [["1.00 (1.00 to 1.00)", "", "", "0.50 (0.50 to 0.50)"], ["0.25 (0.25 to 0.25)", "", "", ""]]
