"""Every command takes the files of other libraries where it takes a policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_control.cli import main
from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy, foreign_kind
from rlhf_control.nets.policy import Policy
from rlhf_control.train import finetune, resume
from tests.interop.shown_env import saved


def tuned(config: FinetuneConfig, path: Path, **changes: object) -> FinetuneConfig:
    """A fine-tuning of this policy in Shown-v0."""
    return replace(
        config, policy=str(path), env_id="Shown-v0", oracle="env", env={"kind": "box"}, clip_seconds=0.2,
        termination="allow", **changes,
    )  # fmt: skip


def test_finetuning_goes_on_from_it_and_its_checkpoints(tmp_path: Path, tiny_config: FinetuneConfig) -> None:
    saved(tmp_path / "m.zip", "box", net_arch={"pi": [8], "vf": [6, 4]}, activation_fn=torch.nn.ReLU)
    run = finetune(tuned(tiny_config, tmp_path / "m.zip"))
    start, end = find_policy(run.path / "pretrained.npz"), find_policy(run.path)
    assert start.config.activation == end.config.activation == "relu" and end.config.critic_hidden == (6, 4)
    assert not end.acts_as(start)
    assert any(row["kl_start"] > 0 for row in run.metrics())
    (tmp_path / "m.zip").unlink()  # the run has its own copy
    (run.path / "policy.npz").unlink()
    assert find_policy(resume(run.path).path).acts_as(end)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "m.zip", "box", net_arch=[8])
    np.savez(tmp_path / "s.npz", mean=np.zeros(3), var=np.ones(3), count=5)
    path, here = str(tmp_path / "m.zip"), ["--env-id", "Shown-v0", "--env", "kind", "box"]
    assert main(["evaluate", path, *here, "--episodes", "1", "--obs-stats", str(tmp_path / "s.npz")]) == 0
    assert "return" in capsys.readouterr().out
    assert main(["evaluate", path]) == 2
    assert "give --env-id ID" in capsys.readouterr().err
    assert main(["evaluate", "halfcheetah", "--obs-stats", str(tmp_path / "s.npz")]) == 2
    assert "leave --obs-stats out" in capsys.readouterr().err


def test_whose_file_it_is(tmp_path: Path, cheetah_policy: Policy) -> None:
    cheetah_policy.save(tmp_path / "ours.npz")
    torch.save({"a": torch.ones(1)}, tmp_path / "weights")
    (tmp_path / "junk.zip").write_bytes(b"no zip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rllib_checkpoint.json").write_text("{}")
    found = {
        name: foreign_kind(tmp_path / name) for name in ("ours.npz", "weights", "junk.zip", "folder", "absent.zip")
    }
    assert found == {
        "ours.npz": "",
        "weights": "torch",
        "junk.zip": "Stable-Baselines3",
        "folder": "RLlib",
        "absent.zip": "",
    }
    with pytest.raises(UserError, match=r"cannot read .*junk.zip as a Stable-Baselines3 model"):
        find_policy(tmp_path / "junk.zip", "Pendulum-v1")
    with pytest.raises(UserError, match="no policy at"):
        find_policy(tmp_path / "absent.zip", "Pendulum-v1")
