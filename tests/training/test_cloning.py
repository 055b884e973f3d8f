"""Pretraining by cloning what comes with an environment."""

from dataclasses import replace
from pathlib import Path

import pytest

from envs import DIALOGUE
from rlhf_control import train
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import load_policy
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.run import Run
from tests.dialogues import NET

SMALL = PPOConfig(num_envs=8, num_steps=24, minibatch_size=64)
CLOCK = {"wall_seconds", "steps_per_second"}


def parameters(run: Run) -> dict[str, bytes]:
    return {
        name: tensor.numpy().tobytes() for name, tensor in load_policy(run.path / "policy.npz").state_dict().items()
    }


def test_the_corpus_is_learned_and_a_resumed_run_is_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.dialogue.vector.COPIES", 1)
    monkeypatch.setattr("rlhf_control.rl.cloning.WARM_UP", 1)
    config = PretrainConfig(
        DIALOGUE, total_steps=192 * 12, learner="cloning", out=str(tmp_path / "whole"), net=NET, ppo=SMALL,
        checkpoint_seconds=0,
    )  # fmt: skip
    whole, cut = (train.pretrain(replace(config, out=str(tmp_path / name))) for name in ("whole", "cut"))
    first, last = whole.metrics()[0], whole.metrics()[-1]
    assert last["loss"] < first["loss"] - 0.2 and last["perplexity"] < 1952
    checkpoint_path(cut.path, 12).unlink()  # as if it had been killed one iteration earlier
    (cut.path / "policy.npz").unlink()
    train.resume(cut.path)
    assert parameters(cut) == parameters(whole)
    of_both = [[{k: v for k, v in row.items() if k not in CLOCK} for row in run.metrics()] for run in (cut, whole)]
    assert of_both[0] == of_both[1]


def test_an_environment_without_demonstrations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no demonstrations"):
        train.pretrain(PretrainConfig("CartPole-v1", learner="cloning", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
