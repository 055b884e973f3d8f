"""What a baseline refuses; what it learns is in tests/interop."""

from pathlib import Path

import pytest

from rlhf_control import train
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run
from rlhf_control.training.baseline import pretrain_with_sb3


def test_a_refused_baseline_leaves_no_folder(tmp_path: Path) -> None:
    ppo = PPOConfig(num_envs=2, num_steps=16, minibatch_size=8, step_control="kl-penalty")
    with pytest.raises(UserError):
        train.pretrain(PretrainConfig("CartPole-v1", learner="sb3", out=str(tmp_path / "s"), ppo=ppo))
    assert not (tmp_path / "s").exists()


def test_a_baselines_run_cannot_be_resumed(tmp_path: Path) -> None:
    config = PretrainConfig("CartPole-v1", learner="sb3", out=str(tmp_path / "run"))
    with pytest.raises(UserError, match="cannot be resumed exactly"):
        pretrain_with_sb3(config, Run.create(tmp_path / "run", "pretrain", config, env_id=config.env_id))
