import json
import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest

from rlhf_control.analysis.datacard import card_text, data_card, labels
from rlhf_control.config.commands import LabelsConfig
from rlhf_control.data import RATING, SUCCESS, Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import new_vote
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.files import save_state
from tests.conftest import random_segments


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeedbackStore:
    """Ten comparisons by two annotators; ann is asked about four of them again, the clips the other way round."""
    store = FeedbackStore(tmp_path_factory.mktemp("run") / "labels.sqlite")
    clips = random_segments(np.random.default_rng(0), 10, 2, 4)
    swapped = [Segments.stack([clips[i][1], clips[i][0]]) for i in range(4)]
    queries = [Query(0, i, "uniform", clips[i]) for i in range(10)]
    queries += [Query(1, i, "uniform", swapped[i], repeat=1) for i in range(4)]
    queries.append(Query(1, 4, "uniform", clips[0][:1], RATING))
    keys = [asked.key for asked in store.ask(queries)]
    first, second, tie = (0, 1), (1, 0), (0, 0)
    votes = [new_vote(key, Feedback(first, "ann", 1.0 + i)) for i, key in enumerate(keys[:10])]
    bob = [first] * 6 + [second] * 2 + [tie, None]
    votes += [new_vote(key, Feedback(ranks, "bob"), [1, 0]) for key, ranks in zip(keys[:10], bob, strict=True)]
    again = [second, second, first, tie]  # of swapped clips: consistent, consistent, a flip, not clear
    votes += [new_vote(key, Feedback(ranks, "ann"), [1, 0]) for key, ranks in zip(keys[10:14], again, strict=True)]
    store.add(votes=votes)
    store.vote(keys[14], Feedback(None, "ann", value=3.0))
    store.vote(keys[14], Feedback(None, "ann", value=4.0))
    store.undo(keys[14], "ann")
    return store


def test_the_card_of_a_store(store: FeedbackStore) -> None:
    card = data_card(store)
    assert {name: card[name] for name in ("queries", "answered", "answers", "labels", "undone", "changed")} == {
        "queries": 15, "answered": 14, "answers": 24, "labels": 23, "undone": 1, "changed": 1,
    }  # fmt: skip
    assert card["kinds"] == {
        "comparison": {"queries": 14, "answers": 24, "ties": 2, "cannot_tell": 1},
        "rating": {"queries": 1, "answers": 0, "ties": 0, "cannot_tell": 0},
    }
    assert {name: (a["answers"], a["cannot_tell"]) for name, a in card["annotators"].items()} == {
        "ann": (14, 0), "bob": (10, 1),
    }  # fmt: skip
    assert card["seconds"] == {"answers": 10, "lower_quartile": 3.25, "median": 5.5, "upper_quartile": 7.75}
    agreement = card["agreement"]["comparison"]
    assert (agreement["method"], agreement["annotators"], agreement["items"]) == ("Cohen", 2, 10)
    consistency = card["consistency"]
    assert (consistency["repeats"], consistency["clear_repeats"], consistency["flips"]) == (4, 3, 1)
    assert consistency["same"]["share"] == 0.5
    assert consistency["error_rate"] == pytest.approx((1 - (1 / 3) ** 0.5) / 2)
    # clear: ann's 10 prefer what stood first; of bob's 8, shown the other way round, the 2 for "second"; of ann's 3
    # repeats, shown the other way round, the 2 for "second"
    assert card["position"]["clear"] == 21
    assert card["position"]["first_preferred"]["share"] == 14 / 21


def test_marks_on_the_card(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    clips = random_segments(np.random.default_rng(1), 3, 1, 4)
    asked = store.ask([Query(0, i, "uniform", clips[i], SUCCESS) for i in range(3)], annotators=2)
    for name, marks in (("ann", (1.0, 0.0, None)), ("bob", (1.0, 1.0, 0.0))):
        store.add(votes=[new_vote(a.key, Feedback(None, name, value=v)) for a, v in zip(asked, marks, strict=True)])
    card = data_card(store)
    assert card["kinds"]["success"] == {"queries": 3, "answers": 6, "ties": 0, "cannot_tell": 1, "successes": 3}
    assert card["agreement"]["success"]["items"] == 3
    assert "3 queries, 6 answers, 3 successes, 1 cannot tell" in card_text(card)


def test_agreement_of_three_is_fleiss(tmp_path: Path) -> None:
    """Both items: two against one, so P = 1/3. Six judgements, three each way: 1/2 expected. Kappa is -1/3."""
    store = FeedbackStore(tmp_path / "labels.sqlite")
    clips = random_segments(np.random.default_rng(1), 2, 2, 4)
    ordered = [Segments.stack(sorted((pair[0], pair[1]), key=Segments.digest)) for pair in (clips[0], clips[1])]
    keys = [asked.key for asked in store.ask([Query(0, i, "uniform", pair) for i, pair in enumerate(ordered)])]
    answers = {"a": ((0, 1), (1, 0)), "b": ((0, 1), (1, 0)), "c": ((1, 0), (0, 1))}
    store.add(
        votes=[new_vote(k, Feedback(r, name)) for name, rs in answers.items() for k, r in zip(keys, rs, strict=True)]
    )
    found = data_card(store)["agreement"]["comparison"]
    assert found == {"method": "Fleiss", "annotators": 3, "items": 2, "kappa": pytest.approx(-1 / 3)}


def test_the_error_rate_of_an_annotator_who_errs(tmp_path: Path) -> None:
    """Planted: wrong with probability 0.15 on clear pairs, each asked twice."""
    store, rng = FeedbackStore(tmp_path / "labels.sqlite"), np.random.default_rng(0)
    clips = random_segments(rng, 800, 2, 2)
    queries = [Query(r, i, "uniform", clips[i], repeat=r) for r in (0, 1) for i in range(800)]
    keys = [asked.key for asked in store.ask(queries)]
    wrong = rng.random(1600) < 0.15
    votes = [new_vote(key, Feedback((1, 0) if w else (0, 1), "me")) for key, w in zip(keys, wrong, strict=True)]
    store.add(votes=votes)
    found = data_card(store)["consistency"]
    low, high = found["error_rate_interval"]
    assert low < 0.15 < high and abs(found["error_rate"] - 0.15) < 0.03


def test_an_empty_store_has_a_card(tmp_path: Path) -> None:
    card = data_card(FeedbackStore(tmp_path / "labels.sqlite"))
    assert card["answers"] == 0 and card["kinds"] == {} and card["position"] == {"clear": 0, "first_preferred": None}
    assert "nothing to tell from" in card_text(card)


def test_the_verb(store: FeedbackStore, tmp_path: Path) -> None:
    folder = str(store.path.parent)
    text = labels(LabelsConfig(folder, export=str(tmp_path / "export")))
    for words in ("14 answered", "by ann", "Cohen's kappa", "error rate, at least", "66.7%"):
        assert words in text
    card = json.loads(labels(LabelsConfig(folder, json=True)))
    assert card == data_card(store)
    again = labels(LabelsConfig(str(tmp_path / "again.sqlite"), load=str(tmp_path / "export"), json=True))
    assert json.loads(again) == card
    again = labels(LabelsConfig(str(tmp_path / "again.sqlite"), load=str(tmp_path / "export"), json=True))
    assert json.loads(again) == card  # nothing changed: it was there already
    with pytest.raises(UserError, match="does not exist"):
        labels(LabelsConfig(str(tmp_path)))


def test_the_card_needs_no_torch() -> None:
    code = "import sys, rlhf_control.analysis.datacard; assert 'torch' not in sys.modules"
    run([sys.executable, "-c", code], check=True)


def test_loading_and_exporting_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {f"{name}_{side}": np.random.rand(3, 5, 2) for name in ("obs", "action") for side in "12"}
    np.savez(tmp_path / "pairs.npz", **pairs, label=[1.0, 0.0, 0.5])
    store = str(tmp_path / "store.sqlite")
    assert json.loads(labels(LabelsConfig(store, load=str(tmp_path / "pairs.npz"), json=True)))["answers"] == 3
    assert capsys.readouterr().err.startswith("rlhf-control: loaded 3 new queries and 3 new votes from ")
    labels(LabelsConfig(store, export=str(tmp_path / "out")))
    assert capsys.readouterr().err == f"rlhf-control: exported 3 queries and 3 votes to {tmp_path / 'out'}\n"


def test_nothing_to_load_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no arrays")
    for source, words in (("nowhere", "nothing to load at"), ("empty", "cannot read"), ("text.npz", "no .npz")):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=words):
            labels(LabelsConfig(str(tmp_path / "new.sqlite"), load=str(tmp_path / source)))
        assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_written_where_a_run_is_or_should_be(store: FeedbackStore, tmp_path: Path) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    labels(LabelsConfig(str(store.path), export=str(out)))
    with pytest.raises(UserError, match=r"no run at .*run; to load into a new store, name it labels.sqlite"):
        labels(LabelsConfig(str(run), load=str(out)))
    assert not run.exists()
    run.mkdir()
    (run / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a run's folder"):
        labels(LabelsConfig(str(store.path), export=str(run)))
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_the_card_tells_how_far_a_runs_reward_trusts_each(store: FeedbackStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    store.copy_to(run / "labels.sqlite")
    assert "trust" not in labels(LabelsConfig(str(run)))  # no model yet
    save_state(run / "reward.npz", {"kind": "reward model", "trust": {"ann": 1.0, "bob": -0.5, "carol": 0.25}})
    card = labels(LabelsConfig(str(run)))
    assert "trust 1.00" in card and "trust -0.50" in card and "carol" not in card
    assert json.loads(labels(LabelsConfig(str(run), json=True)))["annotators"]["bob"]["trust"] == -0.5
