import json
from pathlib import Path

from rlhf_control.data import RATING
from rlhf_control.labelling.predictions import Predictions
from tests.sessions import make_session, question


def test_predictions_are_told_by_side(tmp_path: Path) -> None:
    session, predictions = make_session(tmp_path, 20), Predictions(tmp_path)
    questions = session.upcoming(20)
    assert predictions.expected(questions[0]) is None  # nothing was written
    lines = [json.dumps({"key": q.key, "probability_first": 0.8}) for q in questions]
    (tmp_path / "predictions.jsonl").write_text("\n".join(["nonsense", '{"key": 1}', *lines[:-1], lines[-1][:30]]))
    for q in questions[:-1]:
        assert predictions.expected(q) == (q.shown.index(0), 0.8)
    assert predictions.expected(questions[-1]) is None  # half written
    with open(tmp_path / "predictions.jsonl", "a") as file:
        file.write(lines[-1][30:] + "\n")
    assert predictions.expected(questions[-1]) == (questions[-1].shown.index(0), 0.8)


def test_no_prediction_for_what_is_no_pair(tmp_path: Path) -> None:
    session = make_session(tmp_path, 1, RATING, 1)
    (tmp_path / "predictions.jsonl").write_text(
        json.dumps({"key": question(session).key, "probability_first": 1}) + "\n"
    )
    assert Predictions(tmp_path).expected(question(session)) is None
