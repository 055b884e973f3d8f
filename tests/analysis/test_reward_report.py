from typing import Any

from rlhf_control.analysis.reward_evaluation import evaluate_reward
from rlhf_control.analysis.reward_report import report_text
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
