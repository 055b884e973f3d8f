"""Reinforcement learning from human feedback for control.

from rlhf_control import FinetuneConfig, evaluate, finetune, find_policy

run = finetune(FinetuneConfig("halfcheetah", oracle="backward", labels=100))
returns, episodes = evaluate(find_policy(run.path), episodes=10, seed=0)
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module. Loaded when first used: torch takes seconds to import, and `--help` must not wait for it.
_EXPORTS = {
    "finetune": "api",
    "pretrain": "api",
    "resume": "api",
    "BEHAVIOURS": "behaviours",
    "Behaviour": "behaviours",
    "AnnotatorConfig": "config",
    "FinetuneConfig": "config",
    "HumanConfig": "config",
    "GuardConfig": "config",
    "NetConfig": "config",
    "PPOConfig": "config",
    "PretrainConfig": "config",
    "ReferenceConfig": "config",
    "QueryConfig": "config",
    "RewardConfig": "config",
    "Answers": "data",
    "Feedback": "data",
    "Query": "data",
    "Rollout": "data",
    "Segments": "data",
    "UserError": "errors",
    "FeedbackStore": "store",
    "Policy": "nets",
    "load_policy": "nets",
    "RewardOracle": "oracles",
    "find_policy": "policies",
    "plot_runs": "plots",
    "record_video": "record",
    "load_behaviours": "own_behaviours",
    "report": "report",
    "report_finetuning": "report",
    "report_pretraining": "report",
    "RewardModel": "reward",
    "comparisons": "reward",
    "LearnedRewardWrapper": "reward_env",
    "LearnedRewardVectorWrapper": "reward_env",
    "evaluate_reward": "evaluate_reward",
    "collect": "rollouts",
    "evaluate": "rollouts",
    "make_envs": "rollouts",
    "start_envs": "rollouts",
    "Run": "runs",
}

__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rlhf_control' has no attribute '{name}'")
    return getattr(importlib.import_module(f"rlhf_control.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
