"""Reinforcement learning from human feedback for control.

from rlhf_control import FinetuneConfig, evaluate, finetune, find_policy

run = finetune(FinetuneConfig("halfcheetah", oracle="backward", labels=100))
returns, episodes = evaluate(find_policy(run.path), episodes=10, seed=0)
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Public name -> module. Loaded when first used: torch takes seconds to import, and `--help` must not wait for it.
_EXPORTS = {
    "finetune": "api",
    "pretrain": "api",
    "resume": "api",
    "train": "api",
    "BEHAVIOURS": "behaviours.catalogue",
    "Behaviour": "behaviours.behaviour",
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
    "FeedbackStore": "feedback.store",
    "take_over": "queries.takeovers",
    "Policy": "nets.policy",
    "load_policy": "nets.policy",
    "RewardOracle": "feedback.oracles",
    "find_policy": "interop.policies",
    "hyperparameters": "training.continuing",
    "suited": "training.continuing",
    "plot_runs": "analysis.figures",
    "record_video": "analysis.videos",
    "load_behaviours": "behaviours.own",
    "report": "analysis.report",
    "report_finetuning": "analysis.report",
    "report_pretraining": "analysis.report",
    "RewardModel": "reward.model",
    "comparisons": "reward.model",
    "LearnedRewardWrapper": "interop.reward_wrappers",
    "LearnedRewardVectorWrapper": "interop.reward_wrappers",
    "learned_reward_env": "interop.reward_wrappers",
    "evaluate_reward": "analysis.reward_evaluation",
    "collect": "simulation.rollouts",
    "evaluate": "simulation.rollouts",
    "make_envs": "simulation.make",
    "start_envs": "simulation.vector",
    "Run": "runs.run",
}

__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rlhf_control' has no attribute '{name}'")
    if name == "train":  # a module too, which `Package` makes callable
        return importlib.import_module("rlhf_control.train")
    return getattr(importlib.import_module(f"rlhf_control.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__


class CallableModule(ModuleType):
    """Is `rlhf_control.train`, the module with the method, and `api.train`, the function of the same name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return importlib.import_module("rlhf_control.api").train(*arguments, **options)


class Package(ModuleType):
    """Is this package. Importing a module sets it here, whoever imports it, and `train` is then callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "train" and type(value) is ModuleType:
            value.__class__ = CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package
