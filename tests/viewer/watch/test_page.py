from pathlib import Path

import numpy as np

from rlhf_control.data import COMPARISON, RANKING
from rlhf_control.viewer.watch.page import at_cursor, facts, opinion, span
from tests.human_runs import make_run


def test_curves_share_one_scale() -> None:
    assert span([np.array([0.0, 2.0]), None, np.array([-1.0])]) == (-1.0, 2.0)
    assert span([np.array([3.0, 3.0])]) == (2.5, 3.5)
    assert span([None]) == (-1.0, 1.0)


def test_the_value_at_the_cursor_lies_between_two_steps() -> None:
    curve = np.array([0.0, 2.0, 4.0, 6.0])
    assert [at_cursor(curve, share) for share in (0.0, 0.125, 0.25, 0.5, 1.0)] == [0.0, 0.0, 1.0, 3.0, 6.0]


def test_the_models_opinion() -> None:
    assert opinion([0.5, -0.25]) == "prefers A, by 0.75 a step"
    assert opinion([0.1, 0.5, 0.2]) == "prefers B, by 0.30 a step"
    assert opinion([0.25]) == "a mean reward of +0.25"
    assert opinion([0.25, None]) == "has not said anything yet"


def test_a_questions_circumstances(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", (COMPARISON, RANKING))
    words = facts(store.asked()[1])
    assert words.startswith("ranking  ·  round 1  ·  uniform  ·  asked ") and words.endswith(store.asked()[1].key[:8])
