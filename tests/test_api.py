from dataclasses import replace
from pathlib import Path

import pytest

import rlhf_control
from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig


def test_everything_public_is_there() -> None:
    assert all(getattr(rlhf_control, name) is not None for name in rlhf_control.__all__)


def test_from_python_a_run_has_its_report(
    tiny_config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLHF_CONTROL_PROGRESS", "1e-9")
    run = rlhf_control.finetune(tiny_config)
    assert {"report.md", "results.json", "curves.png"} <= {file.name for file in run.path.iterdir()}
    assert capsys.readouterr().err.count("%") == 8
    quiet = rlhf_control.finetune(replace(tiny_config, out=str(tmp_path / "quiet")), report=False)
    assert not (quiet.path / "report.md").exists()
    rlhf_control.resume(quiet.path)
    assert (quiet.path / "report.md").exists()

    ppo = PPOConfig(num_envs=2, num_steps=32, minibatch_size=16, epochs=1)
    start = rlhf_control.pretrain(PretrainConfig("CartPole-v1", total_steps=128, out=str(tmp_path / "p"), ppo=ppo))
    assert (start.path / "results.json").exists() and "2 of 2" not in repr(start)
