"""A sweep on this machine's cores, from the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_control.cli import main
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.runs.files import load_state, sha256
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.sweep import is_done, wait_for
from rlhf_control.train import pretrain

TOML = """
command = "pretrain"
seeds = "0-1"
metric = "env_return"
[options]
env_id = "CartPole-v1"
total_steps = {steps}
checkpoint_seconds = 0.0
ppo = {{num_envs = 4, num_steps = 32, minibatch_size = 32, epochs = 2}}
[methods.short]
total_steps = 512
[methods.long]
"""


def sweep(tmp_path: Path, steps: int, *arguments: str) -> list[str]:
    (tmp_path / "sweep.toml").write_text(TOML.format(steps=steps))
    return [sys.executable, "-m", "rlhf_control", "sweep", "sweep.toml", "--out", "out", *arguments]


def test_a_killed_sweep_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    command, out = sweep(tmp_path, 25_600), tmp_path / "out"
    (out / "long-1").mkdir(parents=True)  # where nothing can be made
    (out / "long-1" / "mine.txt").write_text("not a run")
    driver = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 200
    begun, done = out / "long-0" / "metrics.jsonl", out / "short-0" / "results.json"
    while not (begun.exists() and begun.stat().st_size and done.exists()):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not (out / "long-0" / "policy.npz").exists()
    before = sha256(out / "short-0" / "policy.npz")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert again.returncode == 1 and "long-1 failed: " in again.stderr and "1 run failed: long-1" in again.stderr
    assert sha256(out / "short-0" / "policy.npz") == before
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["failed"]) == ["long-1"] and summary["metric"] == "env_return"
    assert [(group["method"], group["runs"]) for group in summary["groups"]] == [("short", 2), ("long", 1)]
    assert "| short | " in again.stdout and "long-1 failed" in (out / "summary.md").read_text()
    whole = PretrainConfig(
        "CartPole-v1", total_steps=25_600, out=str(tmp_path / "whole"),
        ppo=PPOConfig(4, 32, minibatch_size=32, epochs=2),
    )  # fmt: skip
    ours, theirs = (load_state(path / "policy.npz")["parameters"] for path in (out / "long-0", pretrain(whole).path))
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_only_what_came_to_its_end_with_these_options_is_done(tmp_path: Path) -> None:
    config = PretrainConfig(
        "CartPole-v1", total_steps=128, out=str(tmp_path / "run"), ppo=PPOConfig(4, 32, minibatch_size=32)
    )
    assert not is_done(config)
    run = pretrain(config)
    assert not is_done(config)  # without its report
    run.write_json("results.json", {})
    assert is_done(config)
    assert not is_done(PretrainConfig(**{**vars(config), "seed": 1}))


def test_who_still_saves_is_waited_for(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("CartPole-v1"))
    started = time.monotonic()
    wait_for(run.path, 0.3)
    assert time.monotonic() - started > 0.3
    run.unlock()
    wait_for(run.path)
    Run(run.path).lock()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("CartPole-v1", "CartPol-v1", "sweep.toml: short: unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
        ("[methods.short]", "[metods.short]", "unknown key 'metods'; did you mean methods"),
    ],
)
def test_a_typo_makes_no_folder(
    tmp_path: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(TOML.format(steps=512).replace(old, new))
    assert main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_without_ray_its_install_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
    sweep(tmp_path, 512)
    assert main(["sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "out"), "--ray"]) == 2
    assert "pip install 'rlhf_control[ray]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_two_drivers_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    lock = Run(tmp_path / "out")
    lock.lock()
    sweep(tmp_path, 512)
    assert main(["sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "another process is working" in capsys.readouterr().err and os.listdir(tmp_path / "out") == ["run.lock"]
