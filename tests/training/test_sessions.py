from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.train import pretrain, resume
from rlhf_control.training import sessions as machine
from rlhf_control.training.sessions import differences, session_facts
from tests.conftest import TINY_PPO


def test_differences_by_hand() -> None:
    now = session_facts()
    assert differences(now, now) == [] and now["torch_kernels"] and now["blas_kernels"]
    other = {**now, "compiler": "none", "torch_kernels": "none", "versions": {**now["versions"], "numpy": "1.0"}}
    assert differences(other, now) == [
        f"compiler none -> {now['compiler']}",
        f"torch kernels none -> {now['torch_kernels']}",
        f"numpy 1.0 -> {now['versions']['numpy']}",
    ]
    del other["torch_kernels"]  # a manifest of an earlier version
    assert len(differences(other, now)) == 2


def test_every_session_is_in_the_manifest_and_one_with_other_kernels_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PretrainConfig("Pendulum-v1", 160, out=str(tmp_path / "run"), ppo=replace(TINY_PPO, epochs=1))
    run = pretrain(config)
    resume(run.path)
    assert "last bits" not in capsys.readouterr().err
    monkeypatch.setattr(machine, "library", lambda: None)
    resume(run.path)
    assert "differ in their last bits" in (said := capsys.readouterr().err) and "compiled True -> none" in said
    sessions = run.read_json("manifest.json")["sessions"]
    assert [s["iteration"] for s in sessions] == [0, 1, 1] and [s["compiled"] for s in sessions] == [True, True, False]
