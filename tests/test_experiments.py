"""The harness of the experiments about feedback, and what their conditions promise."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.cli import one_seed
from rlhf_control.config import AnnotatorConfig, FinetuneConfig, GuardConfig, PretrainConfig, QueryConfig
from rlhf_control.data import Feedback, Query
from rlhf_control.feedback.schema import query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.queries.strategies import STRATEGIES
from rlhf_control.runs.files import sha256
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.pool import RunCell
from rlhf_control.sweeps.sweep import Place
from tests.conftest import random_segments
from tests.synthetic_runs import finetuning

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import alarm
import chance_guard
import common
import feedback
import feedback_kinds
import game_tasks
import kl_anchor
import label_table
import online_labels
import oracles
import ppo_table
import preference_overhead
import query_strategies
import quickstart_seeds
import reward_fits

BASE = feedback.BASE


def arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *more: str) -> feedback.argparse.Namespace:
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["experiment.py", *folders, *more])
    return feedback.options(None)


# -- conditions


def test_every_annotator_is_asked_the_same_number_of_questions() -> None:
    every = oracles.conditions(BASE)
    assert len(every) == 15 and next(iter(every)) == "perfect"
    assert {config.labels for config in every.values()} == {100}
    assert {config.behaviour() for config in every.values()} == {"backward"}
    assert len({str(feedback.placed(config, 0, Path("x")).out) for config in every.values()}) == 15


def test_a_crowd_gives_as_many_answers_whoever_is_in_it() -> None:
    honest, with_a_liar, believed = oracles.crowds(BASE).values()
    assert {c.labels for c in (honest, with_a_liar, believed)} == {400}
    assert replace(with_a_liar, annotator=honest.annotator) == honest and with_a_liar.annotator.crowd[-1] == -1
    assert replace(believed, reward=with_a_liar.reward) == with_a_liar and not believed.reward.trust


def test_every_strategy_has_the_same_budget() -> None:
    every = query_strategies.conditions(BASE)
    assert list(every) == list(STRATEGIES)
    assert {(c.labels, c.first_labels, c.rounds, c.query) for c in every.values()} == {
        (40, 8, 5, QueryConfig(random_share=0.0))
    }


def test_offline_is_one_round_of_all_answers() -> None:
    every = online_labels.conditions(BASE, 100, (1, 5))
    assert every["100 answers, offline"].labels_by_round() == [100]
    assert every["100 answers in 5 rounds"] == BASE  # shared with the other experiments


def test_the_anchors_of_a_fixed_reward_differ_in_beta_alone() -> None:
    assert all(len(config.labels_by_round()) == 1 for config in kl_anchor.beside_the_old(BASE).values())
    assert {c.reference.beta for c in kl_anchor.beside_the_old(BASE).values()} == {0.0, 0.02, 0.1, 0.5}
    assert {(c.reference.policy, c.reference.beta) for c in kl_anchor.opposite(BASE).values()} == {
        ("round", 0.0), ("round", 0.02), ("round", 0.1), ("pretrained", 0.02), ("pretrained", 0.1)
    }  # fmt: skip


def test_every_fit_departs_from_the_defaults_in_one_option() -> None:
    every = reward_fits.conditions(BASE)
    assert every.pop("defaults") == BASE
    departures = [feedback.changes(config).keys() - feedback.changes(BASE).keys() for config in every.values()]
    assert departures == [{"reward"}] * len(every)
    options = [next(iter(feedback.changes(config)["reward"])) for config in every.values()]
    assert all(len(feedback.changes(config)["reward"]) == 1 for config in every.values())
    assert len(set(options)) == len(every)


def test_what_an_answer_costs_by_hand() -> None:
    costs = {kind: feedback_kinds.seconds(kind) for kind in feedback_kinds.WATCHED}
    assert costs == pytest.approx({
        "comparison": 2 * 1.5 + 1,
        "ranking": 4 * 1.5 + np.log2(24),
        "rating": 1.5 + np.log2(5),
        "reward": 1.5 + np.log2(100),
        "demonstration": 10 * 1.5,
        "correction": 5 * 1.5 + 2 + 1,
        "success": 4 + 1,
        "take-over": 3 * 1.5 + 1,
        "groups": 6 * 1.5 + 1,
    })  # fmt: skip
    assert {kind: feedback_kinds.affordable(kind) for kind in costs} == {  # in the 240 s of 60 comparisons
        "comparison": 60, "ranking": 22, "rating": 62, "reward": 29, "demonstration": 25, "correction": 33,
        "success": 48, "take-over": 50, "groups": 24,
    }  # fmt: skip


@pytest.mark.parametrize("answers", [60, 25])
def test_every_kind_gets_its_number_of_answers(answers: int) -> None:
    for kind in feedback_kinds.WATCHED:
        config = feedback_kinds.condition(BASE, kind, answers, "halfcheetah")
        shown = config.demonstration_clips if config.demonstrations else 0
        assert config.labels + shown == answers
        assert sum(config.labels_by_round()) == config.labels
    part = feedback_kinds.part(BASE, dict.fromkeys(feedback_kinds.WATCHED, 60), "", "", "halfcheetah")
    assert part.facts["30 comparisons, 30 demonstrations"]["minutes"] == pytest.approx(30 * (4 + 15) / 60)
    assert feedback.changes(part.conditions["60 success marks"])["env"] == feedback_kinds.SHORT
    assert part.facts["60 rankings"]["minutes"] == pytest.approx(6 + np.log2(24))


# -- runs


def test_a_folder_is_named_by_all_options_but_seed_and_place() -> None:
    one, other = (feedback.placed(replace(BASE, out=out), 3, Path("runs")) for out in ("a", "b"))
    assert one == other and one.seed == 3 and one.out.startswith("runs/backward-") and one.out.endswith("-3")
    assert feedback.placed(BASE, 4, Path("runs")).out[:-1] == one.out[:-1]
    for changed in (replace(BASE, labels=50), replace(BASE, query=QueryConfig(attempts=5))):
        assert feedback.placed(changed, 3, Path("runs")).out != one.out


def test_a_budget_keeps_the_first_rounds_share() -> None:
    assert feedback.budget(BASE, 40).labels_by_round() == [8, 8, 8, 8, 8]
    assert feedback.budget(BASE, 22).first_labels == 4
    assert feedback.budget(BASE, 40, rounds=1).labels_by_round() == [40]


def test_a_run_is_made_once_and_measured(
    tmp_path: Path, tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = arguments(monkeypatch, tmp_path, "--seeds", "0,1", "--workers", "2")
    tiny = replace(tiny_config, guard=GuardConfig(chance="off", alarm="off"))
    conditions = {"one": tiny, "the same": replace(tiny, out="elsewhere"), "known": replace(tiny, learn_from="oracle")}
    results = feedback.run_all(conditions, options)
    assert len(list((tmp_path / "runs").glob("*-*"))) == 4
    assert results["one"] == results["the same"] != results["known"]
    run = results["one"]["0"]
    assert (run["labels"], run["answers"], run["wrong"], run["ties"], run["cannot_tell"]) == (12, 12, 0, 0, 0)
    assert 0 <= run["accuracy"] <= 1 and "accuracy" not in results["known"]["0"]
    assert len(run["curves"]["steps"]) == 8 == len(run["curves"]["kl"])
    policies = {path: sha256(path) for path in tmp_path.glob("runs/*/policy.npz")}
    (tmp_path / "runs" / next(iter(policies)).parent.name / "result.json").unlink()
    assert feedback.run_all(conditions, options) == results  # measured again, not trained again
    assert {path: sha256(path) for path in tmp_path.glob("runs/*/policy.npz")} == policies


def test_answer_rates_by_hand(tmp_path: Path) -> None:
    run = Run(tmp_path)
    store = FeedbackStore(tmp_path / "labels.sqlite")
    clips = random_segments(np.random.default_rng(0), 4, 2, 5)
    clips.next_obs[:, 0, :, 8], clips.next_obs[:, 1, :, 8] = -3.0, 3.0  # m/s: the first runs backward
    clips.action[:] = 0
    queries = [Query(0, i, "uniform", clips[i]) for i in range(4)]
    store.ask(queries)
    for query, ranks in zip(queries, ((0, 1), (1, 0), (0, 0), None), strict=True):
        store.vote(query_key(query), Feedback(ranks, "somebody"))
    assert feedback.answer_rates(run, BASE) == {"wrong": 1 / 2, "ties": 1 / 4, "cannot_tell": 1 / 4}


def test_true_reward_is_that_of_whole_episodes() -> None:
    rows = [{"true_reward": float(value)} for value in [0] * 8 + [8] * 8 + [4] * 8]
    assert feedback.of_true_reward(rows) == {"true_reward": 4.0, "lost": 4.0}
    assert feedback.of_true_reward(rows[:7]) == {} == feedback.of_true_reward([{"score": 1.0}] * 9)


def test_curves_are_thinned() -> None:
    assert feedback.thinned([1.0, 2.0, None]) == [1.0, 2.0]
    assert feedback.thinned(list(range(48))) == [0.5 + 2 * k for k in range(24)]


def swept(made: list[RunCell]):
    """In the place of a sweep: notes its cells and leaves what its runs would."""

    def run_sweep(cells, out, work, place) -> dict[str, str]:
        assert (work, place) == (one_seed, Place(False, "", 2))
        made.extend(cells)
        for cell in cells:
            config = cell.config
            run = Run(finetuning(Path(config.out), config))
            after = {"returns": [1.0], "return_mean": 1.0, "scores": [2.0], "score_mean": 2.0 + config.seed}
            facts = {"labels": 100, "env_steps": 1000, "wall_seconds": 9.0}
            run.write_json("results.json", {"before": {}, "after": after, **facts})
        return {}

    return run_sweep


def test_the_quickstarts_seeds_are_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[RunCell] = []
    drawn: list[str] = []
    monkeypatch.setattr(common, "run_sweep", swept(cells))
    monkeypatch.setattr(quickstart_seeds, "measure", lambda *_: {"score_mean": -2.7})
    monkeypatch.setattr(quickstart_seeds, "plot_runs", lambda runs, out, metrics: drawn.extend([*runs, out.name]))
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "seeds.json")]
    monkeypatch.setattr(sys, "argv", ["quickstart_seeds.py", "--seeds", "3", "4", "--jobs", "2", *folders])
    quickstart_seeds.main()
    names = ["votes", "oracles-reward", "coin-flip-votes", "constant-reward"]
    assert [cell.name for cell in cells] == [f"{name}-{seed}" for name in names for seed in (3, 4)]
    assert {cell.config.behaviour() for cell in cells} == {"backward"} and not any(c.config.video for c in cells)
    result = json.loads((tmp_path / "seeds.json").read_text())
    assert result["arms"]["votes"][1] == {
        "returns": [1.0], "return_mean": 1.0, "scores": [2.0], "score_mean": 6.0, "seed": 4, "labels": 100,
        "env_steps": 1000, "wall_seconds": 9.0,
    }  # fmt: skip
    assert result["summary"]["votes"]["iqm"] == 5.5 and result["before"] == {"score_mean": -2.7}
    assert drawn == [*(cell.config.out for cell in cells), "quickstart_seeds"]


def test_an_experiment_whose_run_fails_ends_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(common, "run_sweep", lambda *_: {"Hopper-v5-3": "no memory"})
    monkeypatch.setattr(sys, "argv", ["ppo_table.py", "--tasks", "Hopper-v5", "--seeds", "3", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        ppo_table.main()
    assert stopped.value.code == 2 and "1 of 1 runs failed: Hopper-v5-3" in capsys.readouterr().err


def test_games_are_trained_seed_by_seed_and_told_in_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(task: str) -> PretrainConfig:
        found = game_tasks.config_of(task)
        return replace(found, total_steps=1600, ppo=replace(found.ppo, num_envs=8, num_steps=200, epochs=1))

    made: list[str] = []

    def make(cells: list[RunCell], _: str, work: object, place: Place) -> list[str]:
        for cell in cells:
            made.append(cell.name)
            game_tasks.timed(cell.config)
        return []

    monkeypatch.setattr(common, "run_sweep", make)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(game_tasks, "RESULTS", tmp_path)
    command = ["game_tasks.py", "--tasks", "Bricks-planes", "--seeds", "3-4", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    configs = common.make_tasks(
        common.task_arguments(None, "game_tasks", ["Bricks-planes", "Orchard-planes"], "0-2"), small
    )
    assert made == ["Bricks-planes-3", "Bricks-planes-4"] and list(configs) == ["Bricks-planes"]
    monkeypatch.setattr(game_tasks, "config_of", small)
    monkeypatch.setattr(game_tasks, "make_tasks", lambda *_: configs)
    earlier = {"seed": 7, "return": 9.0, "games": 400, "minutes": 1.0, "processor_minutes": 1.0}
    tasks = {"Bricks-planes": {"steps": 1600, "runs": [earlier | {"steps": [800, 1600], "returns": [1.0, 2.0]}]}}
    (tmp_path / "game_tasks.json").write_text(json.dumps({"tasks": tasks}))
    game_tasks.main()
    kept = json.loads((tmp_path / "game_tasks.json").read_text())["tasks"]["Bricks-planes"]
    assert [run["seed"] for run in kept["runs"]] == [3, 4, 7] and kept["steps"] == 1600
    assert (tmp_path / "game_tasks.md").read_text().count("\n") == 3 and (tmp_path / "game_tasks.png").exists()
    solved, not_yet = ({"return": value, "minutes": 2.0, "processor_minutes": 1.0} for value in (16.2, 16.1))
    assert game_tasks.row("Bricks-planes", 16, [solved, not_yet]).endswith("| 16.2 | 40 | **16.2**, 16.1 | 2.0 | 1.0 |")


# -- results


def test_an_experiment_is_told_in_numbers_a_table_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = arguments(monkeypatch, tmp_path, "--seeds", "0-1")
    conditions = {"as it is": BASE, "no anchor": kl_anchor.anchored(BASE, "round", 0.0)}
    for config in conditions.values():
        for seed in (0, 1):
            placed = feedback.placed(config, seed, options.runs)
            extra = {"true_reward": [0.5] * 12, "reward_mean": [0.1] * 12}
            finetuning(Path(placed.out), placed, **extra)
            result = {"score": 1.0 + seed, "accuracy": 0.9, "commit": "abc", "labels": 100}
            Run(Path(placed.out)).write_json("result.json", result)
    facts = {"as it is": {"minutes": 6.0}}
    columns = ("score", "labels", "minutes", "wrong")
    part = feedback.Part(conditions, columns, ("score", "accuracy"), "Heading", "_x", facts, overoptimisation=True)
    feedback.experiment("told", "Title", [part], options)
    out = tmp_path / "results"
    assert {path.name for path in out.iterdir()} == {"told.json", "told.md"} | {
        f"told_x{name}.{suffix}" for name in ("", "_curves", "_rewards") for suffix in ("png", "pdf")
    }
    text = (out / "told.md").read_text()
    assert "| condition | score at the end | labels | human minutes | wrong answers |" in text
    assert "| as it is | 1.50 (1.00 to 2.00) | 100 | 6.0 |  |" in text
    assert "| no anchor | 1.50 (1.00 to 2.00) | 100 |  |  |" in text
    result = json.loads((out / "told.json").read_text())
    assert result["options"]["no anchor"]["reference"] == {"beta": 0.0} and result["options"]["as it is"]["rounds"] == 5
    assert result["runs"]["as it is"]["1"]["score"] == 2.0


def test_the_overheads_parts_are_there() -> None:
    """A part that is renamed would be left out of the profile without a word."""
    package = Path(feedback.__file__).parent.parent / "rlhf_control"
    for file, function in preference_overhead.PREFERENCES.values():
        assert f"def {function}(" in (package / file).read_text(), (file, function)


# -- how many labels are enough


def test_shares_of_what_the_oracle_gains_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seeds from 100: the oracle gains 100, 1 (too little to tell) and loses; the votes bring 50 of the first."""
    starts = [replace(label_table.preset("Hopper-v5", "tuned"), seed=seed, out=str(seed)) for seed in range(3)]
    options = {
        "votes": [0, 100],
        "steps": 1,
        "termination": "truncate",
        "mistake": 0.0,
        "as_before": False,
        "coin_flips": False,
    }
    settings = label_table.argparse.Namespace(**options)
    oracle, votes = {0: 200.0, 1: 101.0, 2: 50.0}, {0: 150.0, 1: 101.0, 2: 100.0}
    monkeypatch.setattr(label_table, "in_its_own", lambda start, partner: 100.0)
    monkeypatch.setattr(label_table, "returned", lambda c: (oracle if c.learn_from == "oracle" else votes)[c.seed])
    monkeypatch.setattr(
        label_table, "with_noise",
        lambda c, policy="": 100.0 if policy else 200.0 if c.learn_from == "oracle" else 125.0,
    )  # fmt: skip
    monkeypatch.setattr(label_table, "alarmed", lambda c: c.seed == 1)
    found = label_table.row(starts, settings)
    assert found["shares"] == {"oracle": [1.0], "100": [0.5]} and found["no room"] == 2
    assert found["returns"]["100"] == [150.0, 101.0, 100.0] and found["over seeds"]["100"]["iqm"] == 0.5
    assert found["alarms"] == {"100": 1}
    assert found["together"]["100"]["share"] == 1.0  # of 51 together, 51
    assert found["with noise"]["before"] == [100.0] * 3
    assert found["with noise"]["together"]["100"] == {"share": 0.25, "low": 0.25, "high": 0.25}


def test_arms_of_the_table_differ_in_what_they_learn_from_alone() -> None:
    settings = label_table.argparse.Namespace(steps=1000, termination="truncate", mistake=0.2, as_before=False)
    start = replace(label_table.preset("Hopper-v5", "tuned"), out="start")
    votes, oracle = (label_table.arm(start, v, settings) for v in (100, "oracle"))
    assert votes.annotator == AnnotatorConfig(mistake=0.2) and votes.out != oracle.out
    assert replace(votes, learn_from="oracle", out=oracle.out, annotator=AnnotatorConfig()) == oracle
    flips = label_table.arm(start, "coin flips", settings)
    assert flips.oracle == "coin-flip" and flips.labels == 100 and flips.guard.chance == "off"
    costs = label_table.argparse.Namespace(steps=1000, termination="penalty", mistake=0.0, as_before=False)
    assert label_table.arm(start, 100, costs).clip_seconds == label_table.SHORT < votes.clip_seconds
    fresh = replace(start, total_steps=1)
    assert label_table.arm(fresh, 100, costs).clip_seconds == label_table.SHORTEST
    assert [label_table.arm(start, n, settings).labels_by_round()[0] for n in (20, 50, 200)] == [4, 10, 40]
    before = label_table.argparse.Namespace(**{**vars(costs), "as_before": True})
    now, then = label_table.arm(start, 100, costs), label_table.arm(start, 100, before)
    assert now.learn_end_costs and not then.learn_end_costs and now.rescale_value and not then.rescale_value
    for arm in (100, "oracle"):  # or one would be taken for the other
        assert label_table.arm(start, arm, before).out != label_table.arm(start, arm, costs).out


def test_who_passed_the_guard_by_when_is_counted_over_seeds() -> None:
    runs = {
        "coin": {
            "0": {"passed": [0.0, 1.0], "evidence": [0.0, 2.0]},
            "1": {"passed": [0.0, 0.0], "evidence": [3.1, 0.0]},
        }
    }
    row = chance_guard.summary(runs)["coin"]
    assert row == {"seeds": 2, "the guard": [0.0, 0.5], "held-out answers": [0.5, 0.5]}


# -- is the alarm right


def test_a_hack_took_hold_where_what_was_wanted_is_lost_while_the_learned_reward_rises() -> None:
    rising, falling = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    assert alarm.took_hold(np.array([1.0, 2.0, 0.5]), rising)  # lower than it began
    assert alarm.took_hold(np.array([1.0, 3.0, 1.5]), rising)  # three quarters of the gain are lost
    assert not alarm.took_hold(np.array([1.0, 3.0, 2.5]), rising)  # one quarter
    assert not alarm.took_hold(np.array([1.0, 2.0, 0.5]), falling)  # and the learned reward knows it


def test_precision_and_recall_by_hand() -> None:
    """Four planted, of which three took hold and two were caught; one of two healthy runs was alarmed, and one that
    was not so healthy."""
    planted = [(True, 0.5), (True, 0.7), (True, None), (False, 0.1)]
    runs = {
        "planted": [{"hack": hack, "alarm": at, "peak": 0.4} for hack, at in planted],
        "healthy": [
            {"hack": hack, "alarm": at, "peak": 1.0} for hack, at in ((False, None), (False, 0.3), (True, 0.3))
        ],
    }
    found = alarm.summary(runs, "planted", "healthy")
    assert found["healthy"] == 2
    assert (found["hacks"], found["caught"], found["false alarms"]) == (3, 2, 1)
    assert found["precision"] == found["recall"] == pytest.approx(2 / 3)
    assert found["after the peak"] == pytest.approx(0.2)
