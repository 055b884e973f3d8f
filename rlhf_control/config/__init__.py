"""Every knob: frozen dataclasses, of which the command line makes its flags (`--ppo.lr 1e-4`). Nothing heavy is
imported here, so that `--help` is instant."""

from rlhf_control.config.feedback import AnnotatorConfig, HumanConfig, QueryConfig
from rlhf_control.config.policy import NetConfig, PPOConfig, ReferenceConfig
from rlhf_control.config.reward import GuardConfig, RewardConfig
from rlhf_control.config.training import FinetuneConfig, PretrainConfig

__all__ = [
    "AnnotatorConfig",
    "FinetuneConfig",
    "GuardConfig",
    "HumanConfig",
    "NetConfig",
    "PPOConfig",
    "PretrainConfig",
    "QueryConfig",
    "ReferenceConfig",
    "RewardConfig",
]
