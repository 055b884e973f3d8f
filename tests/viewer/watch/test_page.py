from pathlib import Path

from rlhf_control.data import COMPARISON, RANKING
from rlhf_control.viewer.watch.page import facts, opinion
from tests.human_runs import make_run


def test_the_models_opinion() -> None:
    assert opinion([0.5, -0.25]) == "prefers A, by 0.75 a step"
    assert opinion([0.1, 0.5, 0.2]) == "prefers B, by 0.30 a step"
    assert opinion([0.25]) == "a mean reward of +0.25"
    assert opinion([0.25, None]) == "has not said anything yet"


def test_a_questions_circumstances(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", (COMPARISON, RANKING))
    words = facts(store.asked()[1])
    assert words.startswith("ranking  ·  round 1  ·  uniform  ·  asked ") and words.endswith(store.asked()[1].key[:8])
