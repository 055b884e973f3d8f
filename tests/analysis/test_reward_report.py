from typing import Any

from rlhf_control.analysis.reward_evaluation import evaluate_reward
from rlhf_control.analysis.reward_report import HEAVIEST, report_text, what_it_goes_by
from rlhf_control.config.commands import EvaluateRewardConfig
from rlhf_control.data import Segments
from tests.analysis.rewards import learned


def test_over_optimisation_is_told_of_enough_rows_only(run_of: Any, clips: Segments) -> None:
    path = run_of(learned(clips))
    result = evaluate_reward(EvaluateRewardConfig(str(path), episodes=1, pairs=20))
    result["over-optimisation"] = {"peak_step": 400.0, "lost": 1.38}
    result["curves"]["true"] = [0.0] * 19 + [None]
    assert "138%" not in report_text(result)
    result["curves"]["true"] = [0.0] * 20
    assert "of its gain 138% was gone" in report_text(result)


def test_what_it_goes_by() -> None:
    assert what_it_goes_by(None) == []
    weights = {"obs 8": 0.93, **{f"obs {i} squared": -0.1 for i in range(HEAVIEST + 2)}}
    text = "\n".join(what_it_goes_by({"weights": weights, "networks_add": False}))
    assert "| obs 8 | 0.93 |" in text and "networks add nothing to it; 3 lighter ones" in text
    assert f"obs {HEAVIEST - 2} squared" in text and f"obs {HEAVIEST - 1} squared" not in text
    assert "No number" in "\n".join(what_it_goes_by({"weights": {}, "networks_add": False}))
    assert "; networks add to it." in "\n".join(what_it_goes_by({"weights": {"obs 8": 1.0}, "networks_add": True}))
