import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_control.analysis.reward_evaluation import (
    distances,
    evaluate_reward,
    finite,
    line,
    open_run,
    random_pairs,
)
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import PretrainConfig, RewardConfig
from rlhf_control.config.commands import EvaluateRewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut
from rlhf_control.reward.known import KnownReward
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.simulator import simulated
from tests.analysis.rewards import CONFIG, SMALL, learned


def test_a_learned_reward(run_of: Any, clips: Segments) -> None:
    path = run_of(learned(clips))
    result = evaluate_reward(EvaluateRewardConfig(str(path), expert="halfcheetah", episodes=2, pairs=200))
    sources = result["sources"]
    assert list(sources) == ["on-policy", "without noise", "expert", "before", "earlier", "round 0", "round 1"]
    assert sources["earlier"]["clips"] == 3  # of five, two of which were asked about
    for name in ("round 0", "round 1"):  # what it was fitted to
        # 0.79 to 0.94 over seeds: episodes differ with the last bits of a processor's products
        assert sources[name]["accuracy"] > 0.7 and sources[name]["segment_pearson"] > 0.6
    assert sources["on-policy"]["true_mean"] > sources["expert"]["true_mean"]  # the shipped policy runs forward
    assert sources["on-policy"]["uncertainty_mean"] > 0
    assert 0 <= result["distances"]["epic"] <= 1 and 0 <= result["distances"]["dard"] <= 1
    baselines = result["baselines"]
    assert baselines["learned"]["clips"] > 0.7
    nothing = {"answers": 0.5, "clips": 0.5, "episodes": 0.5}
    assert baselines["constant"] == nothing
    assert baselines["alive"] == nothing  # HalfCheetah's episodes have one length
    assert result["curves"]["env_steps"][-1] == 1200 and result["over-optimisation"]["lost"] is not None
    assert [row["labels"] for row in result["rounds"] if row["heldout_accuracy"] is not None] == [20, 60, 100]

    assert json.loads((path / "reward_evaluation.json").read_text()) == result
    text = (path / "reward_evaluation.md").read_text()
    assert f"| on-policy | {sources['on-policy']['accuracy']:.3g} |" in text
    assert f"| EPIC | {result['distances']['epic']:.3g} |" in text and "| action norm |" in text


def test_what_a_reward_goes_by_is_named() -> None:
    """Of weights worked by hand: the third number seen is the fifth observed, and the sixth the first action."""
    model = RewardModel(6, 2, RewardConfig(linear="on", members=2, hidden=(4,), logit_scale=10.0, obs_parts=("2:6",)))
    model.linear, model.output_std = torch.zeros(2, 13), torch.tensor([[0.5], [0.25]])
    model.linear[:, 2] = torch.tensor([1.0, 2.0])  # 1 / 10 / 0.5 = 0.2, and 0.8
    model.linear[:, 6 + 4] = -20.0  # -4 and -8
    model.linear[:, 0] = 0.01  # too slight
    model.linear[:, 12] = 0.1  # 0.02 and 0.04, of a standard deviation of 3
    weights = {"action 0 squared": pytest.approx(-6), "obs 4": pytest.approx(0.5), "effort": pytest.approx(0.09)}
    assert line(model) == {"weights": weights, "networks_add": False}
    model.layers[-1][0][:] = 1.0
    assert line(model)["networks_add"]


def test_the_true_reward_itself_is_right_about_everything(run_of: Any, clips: Segments) -> None:
    truth = KnownReward(BEHAVIOURS["backward"].reward)
    truth.fit(comparisons(clips[:2][None], np.ones(1)), clips, np.random.default_rng(0))
    path = run_of(truth, replace(CONFIG, learn_from="oracle"))
    result = evaluate_reward(EvaluateRewardConfig(str(path), expert="halfcheetah", episodes=1, pairs=100))
    result["sources"].pop("without noise")  # stands still: what differs there is rounding
    for row in result["sources"].values():
        assert row["accuracy"] == 1 and row["ece"] < 0.1
        assert all(row[name] == pytest.approx(1, abs=1e-4) for name in ("step_pearson", "segment_spearman"))
    assert result["distances"]["epic"] < 1e-3 and result["distances"]["dard"] < 1e-3
    assert result["baselines"]["learned"]["clips"] > 0.97


def test_distances_over_few_transitions(run_of: Any, clips: Segments) -> None:
    path = run_of(learned(clips))
    opened = open_run(EvaluateRewardConfig(str(path)))
    for steps in (4, 20, 90):  # with EPIC's samples of S, A and S' taken last, nothing was left for them
        found = distances(opened, [clips[i][:steps] for i in (0, 1, 59)], np.random.default_rng(0))
        assert 0 <= found["epic"] <= 1 and 0 <= found["dard"] <= 1


def test_the_environments_own_reward_and_no_true_reward(run_of: Any, clips: Segments) -> None:
    model = learned(clips)
    path = run_of(model)
    result = evaluate_reward(EvaluateRewardConfig(str(path), truth="env", episodes=1, pairs=50))
    assert result["sources"]["before"]["accuracy"] is not None
    assert result["distances"] == {"epic": None, "dard": None}  # it is nobody's function of (s, a, s')
    config = json.loads((path / "config.json").read_text())
    config["config"]["oracle"] = "custom"
    (path / "config.json").write_text(json.dumps(config))
    result = evaluate_reward(EvaluateRewardConfig(str(path), episodes=1))
    assert result["truth"] == "" and "distances" not in result
    assert result["over-optimisation"]["lost"] is None and set(result["curves"]["true"]) == {None}  # nobody knows
    assert all(row.keys() == {"answers"} for row in result["baselines"].values())
    assert result["baselines"]["alive"]["answers"] == 0.5
    store = FeedbackStore(path / "labels.sqlite")
    moved = [[np.square(clip.action).sum() for clip in store.segments(asked.clips).values()] for asked in store.asked()]
    right = np.mean([first < second for first, second in moved])  # all votes are for the first
    assert result["baselines"]["action norm"]["answers"] == right
    assert "accuracy" not in result["sources"]["before"]
    assert "people answered" in (path / "reward_evaluation.md").read_text()


def test_runs_without_a_reward(run_of: Any, tmp_path: Path) -> None:
    path = run_of(RewardModel(17, 6, SMALL))
    with pytest.raises(UserError, match="has not been fitted yet"):
        evaluate_reward(EvaluateRewardConfig(str(path)))
    Run(path).save_checkpoint(13, {"reward": {}})
    with pytest.raises(UserError, match="is of another version"):
        evaluate_reward(EvaluateRewardConfig(str(path)))
    Run.create(tmp_path / "other", "pretrain", PretrainConfig("HalfCheetah-v5"))
    with pytest.raises(UserError, match="has no learned reward"):
        evaluate_reward(EvaluateRewardConfig(str(tmp_path / "other")))


def test_the_simulator_gives_the_successors_that_the_data_has(cheetah_policy: Policy) -> None:
    episode = evaluate(cheetah_policy, 1, seed=0, deterministic=False)[1][0][:20]
    found = simulated(cheetah_policy.env_id, cheetah_policy.env, episode, episode.action[:, None])
    assert found is not None and episode.state is not None
    transitions, after = found
    np.testing.assert_allclose(transitions.next_obs[:, 0], episode.next_obs, atol=1e-2)
    np.testing.assert_allclose(after[:-1, 0], episode.state[1:], atol=1e-2)
    np.testing.assert_array_equal(transitions.obs[:, 0], episode.obs)


def test_clips_and_pairs(clips: Segments) -> None:
    episode = clips[0]
    found = cut([episode, episode[:29]], 10)
    assert found.obs.shape == (5, 10, 17)
    np.testing.assert_array_equal(found.obs[1], episode.obs[10:20])
    with pytest.raises(UserError, match="too short"):
        cut([episode], 20)
    pairs = random_pairs(3, 500, np.random.default_rng(0))
    assert (pairs[:, 0] != pairs[:, 1]).all() and set(pairs.ravel()) == {0, 1, 2}
    assert finite({"a": [1.0, float("nan")], "b": float("inf")}) == {"a": [1.0, None], "b": None}
