import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.cli import main, one_seed
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.files import load_state, sha256
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import for_each_seed, parse_seeds, side_by_side

CONFIG = PretrainConfig(
    "CartPole-v1", total_steps=512, checkpoint_seconds=0, ppo=PPOConfig(4, 32, minibatch_size=32, epochs=2)
)


@given(st.sets(st.integers(0, 50), min_size=1))
def test_seeds_are_read_back(seeds: set[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == sorted(seeds)
    assert parse_seeds(f"{min(seeds)}-{max(seeds)}") == list(range(min(seeds), max(seeds) + 1))


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "3-1", "1.5", " 1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="seeds is"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0-9999999999", "largest seed is 2147483647"),
        ("2147483648", "largest seed"),
        ("9" * 5000, "largest seed"),
        ("0-2147483647", "give 1000 at most"),
        ("0-599,1000-1599", "give 1000 at most"),
    ],
)
def test_too_many_and_too_large_seeds_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_seeds(text)
    assert parse_seeds("2147483647") == [2**31 - 1]


def weights(path: Path) -> dict:
    return load_state(path / "policy.npz")["parameters"]


def test_a_seed_beside_others_is_the_seed_alone_to_the_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", "CartPole-v1", "--total-steps", "512", "--ppo.num-envs", "4", "--ppo.num-steps", "32",
                 "--ppo.minibatch-size", "32", "--ppo.epochs", "2"]  # fmt: skip
    assert main([*arguments, "--seeds", "0,2", "--out", str(tmp_path / "many")]) == 0
    assert "95 % interval" in capsys.readouterr().out
    assert main([*arguments, "--seed", "2", "--out", str(tmp_path / "one")]) == 0
    ours, theirs = weights(tmp_path / "many-2"), weights(tmp_path / "one")
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert not (weights(tmp_path / "many-0")["actor.0.weight"] == ours["actor.0.weight"]).all()
    assert not list(tmp_path.glob("*.log"))
    before = sha256(tmp_path / "many-2" / "policy.npz")
    assert main([*arguments, "--seeds", "0,2", "--out", str(tmp_path / "many")]) == 0  # nothing left to do
    assert sha256(tmp_path / "many-2" / "policy.npz") == before


def crash_on_one(config: PretrainConfig) -> int:
    if config.seed == 1:
        print("rlhf-control: a line about something else", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return one_seed(config)


def test_one_crash_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = for_each_seed(replace(CONFIG, seeds="0-3"), str(tmp_path / "run"))
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "mine.txt").write_text("not a run")
    assert side_by_side(crash_on_one, configs) == 1
    assert Run.open(tmp_path / "run-0").finished() and Run.open(tmp_path / "run-3").finished()
    err = capsys.readouterr().err
    assert "seed 1 failed: killed by SIGKILL; if nobody" in err and "something else" not in err
    assert "seed 2 failed" in err and "run-2 exists" in err


def test_sigterm_saves_every_seed_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlhf_control", "pretrain", "CartPole-v1", "--ppo.num-envs", "4",
               "--ppo.num-steps", "32", "--total-steps", "25600", "--seeds", "0-1", "--out", "run"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    metrics = [tmp_path / f"run-{seed}" / "metrics.jsonl" for seed in (0, 1)]
    deadline = time.monotonic() + 120
    while not any(path.exists() for path in metrics) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "same command" in err
    assert not any((tmp_path / f"run-{seed}" / "policy.npz").exists() for seed in (0, 1))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=240).returncode == 0
    whole = [str(tmp_path / "whole") if a == "run" else a for a in command[1:]]
    whole[whole.index("--seeds") : whole.index("--seeds") + 2] = ["--seed", "1"]
    assert subprocess.run([sys.executable, *whole], capture_output=True, timeout=240).returncode == 0
    ours, theirs = weights(tmp_path / "run-1"), weights(tmp_path / "whole")
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_folders_of_other_options_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", "CartPole-v1", "--total-steps", "128", "--ppo.num-envs", "4", "--ppo.num-steps", "32",
                 "--ppo.minibatch-size", "32", "--seeds", "0", "--out", str(tmp_path / "run") + "/"]  # fmt: skip
    assert main(arguments) == 0
    before = sha256(tmp_path / "run-0" / "policy.npz")
    assert main([*arguments, "--ppo.lr", "1e-5"]) == 1
    assert "other options" in capsys.readouterr().err
    assert sha256(tmp_path / "run-0" / "policy.npz") == before


def test_children_save_and_stop_when_the_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlhf_control", "pretrain", "CartPole-v1", "--ppo.num-envs", "4",
               "--ppo.num-steps", "32", "--total-steps", "100000000", "--seeds", "0-1", "--out", "run"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path)
    metrics = [tmp_path / f"run-{seed}" / "metrics.jsonl" for seed in (0, 1)]
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in metrics) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while time.monotonic() < deadline:
        sizes = [path.stat().st_size for path in metrics]
        time.sleep(2)
        if sizes == [path.stat().st_size for path in metrics]:
            break
    else:
        pytest.fail("the children train on")
    for seed in (0, 1):
        run = Run.open(tmp_path / f"run-{seed}")
        run.lock()
        assert run.load_checkpoint()[0] > 0
