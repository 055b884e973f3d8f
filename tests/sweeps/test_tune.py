"""A search by Optuna; what needs it is only tried where it is installed: `make test-ray`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_control.cli import main
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.config.search_space import Span
from rlhf_control.errors import HALTED
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.sweep import Place
from rlhf_control.sweeps.tune import (
    Attempt,
    Search,
    begun,
    final_value,
    import_optuna,
    interrupted,
    open_study,
    repair,
    results,
    run_search,
    suggested,
    watched,
)

CONFIG = PretrainConfig("CartPole-v1", total_steps=1000, ppo=PPOConfig(4, 32, minibatch_size=32))
SPACE = {"ppo.lr": Span(1e-4, 1e-2, log=True), "net.hidden": ((8,), (8, 8)), "ppo.epochs": (1, 2)}


class Asked:
    """Stands for a trial of Optuna: takes the low end and the last choice, and prunes below 1."""

    number = 3

    def __init__(self) -> None:
        self.reported: list[tuple[float, int]] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return low

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        return choices[-1]

    def report(self, value: float, step: int) -> None:
        self.reported.append((value, step))

    def should_prune(self) -> bool:
        return self.reported[-1][0] < 1


def search(tmp_path: Path, **change: object) -> Search:
    return Search(**{**vars(Search(CONFIG, SPACE, "env_return", tmp_path / "out", 3, seed=10)), **change})


def test_a_run_is_made_of_what_is_proposed(tmp_path: Path) -> None:
    trial = Asked()
    assert suggested(trial, "x", ("a", "b")) == "b" and suggested(trial, "x", (1, True)) is True
    cell = begun(search(tmp_path), trial).cell
    assert cell.name == "trial-0003" and cell.config.seed == 13 and cell.config.out == str(tmp_path / "out/trial-0003")
    assert isinstance(cell.config, PretrainConfig) and cell.config.net.hidden == (8, 8)
    assert (cell.config.ppo.lr, cell.config.ppo.epochs, cell.config.ppo.num_envs) == (1e-4, 2, 4)


def test_a_learning_curve_is_compared_by_shares_of_the_run(tmp_path: Path) -> None:
    def row(steps: int, value: float | None) -> dict:
        return {"env_steps": steps, "env_return": value}

    trial = Asked()
    attempt = Attempt(trial, begun(search(tmp_path), trial).cell)
    assert not watched(search(tmp_path), attempt, None)
    for steps, value in ((10, 2.0), (40, 4.0), (60, None), (120, 0.0)):  # a share is 50 steps
        assert not watched(search(tmp_path), attempt, row(steps, value))
    assert trial.reported == [(3.0, 0)]
    assert watched(search(tmp_path), attempt, row(160, 5.0))  # the share before was poor
    assert not watched(search(tmp_path), attempt, row(300, 0.0))  # said once
    attempt = Attempt(trial, attempt.cell)
    assert not any(watched(search(tmp_path, prune=False), attempt, row(steps, 0.0)) for steps in (10, 60, 120))


def test_a_runs_value_is_the_mean_of_its_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for i in range(20):
        run.log({"iteration": i, "env_steps": i, "env_return": float(i) if i != 19 else None, "loss": float("nan")})
    assert final_value(run, "env_return") == 17.5
    assert final_value(run, "loss") is None and final_value(run, "other") is None


def test_a_line_that_was_cut_off_is_taken_away(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    repair(journal)
    assert not journal.exists()
    for content, left in ((b"", b""), (b'{"a":1}\n', b'{"a":1}\n'), (b'{"a":1}\n{"b', b'{"a":1}\n'), (b"{", b"")):
        journal.write_bytes(content)
        repair(journal)
        assert journal.read_bytes() == left


def test_without_optuna_its_install_line_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "CartPole-v1", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'rlhf_control[tune]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


# -- with Optuna


def test_a_study_is_gone_on_with_after_a_cut_and_refuses_another_space(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    optuna, this = import_optuna(), search(tmp_path)
    this.out.mkdir()
    study = open_study(optuna, this)
    first = begun(this, study.ask())
    study.tell(first.trial.number, 1.0)
    going = begun(this, study.ask())
    journal = this.out / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "work')
    (this.out / "study.journal.lock").symlink_to("gone")
    study = open_study(optuna, this)
    assert [(found.value, found.state) for found in results(study)] == [(1.0, "complete")]
    (again,) = interrupted(optuna, study)
    assert begun(this, again).cell == going.cell
    with pytest.raises(Exception, match="another space or metric"):
        open_study(optuna, search(tmp_path, metric="score"))


def returns_its_rate(config: PretrainConfig) -> int:
    """Stands for a run: better the higher the learning rate is; the second fails, the third is interrupted once, the
    fifth is halted by its guard."""
    if config.seed == 11:
        print("rlhf-control: no luck")
        return 2
    if config.seed == 12 and not (once := Path(f"{config.out}.once")).exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGTERM)
    if config.seed == 14:
        print("rlhf-control: the reward looks hacked")
        return HALTED
    run = Run.create(config.out, "pretrain", config)
    for i in range(7):
        run.log({"iteration": i, "env_steps": 128 * (i + 1), "env_return": config.ppo.lr})
    return 0


def test_a_search_ends_in_its_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    found, _ = run_search(search(tmp_path), returns_its_rate, Place())
    assert [trial.state for trial in found] == ["complete", "fail"]
    said = capsys.readouterr().err
    assert "trial-0001 failed: no luck" in said and "trial-0002 was interrupted: killed by SIGTERM" in said
    more, _ = run_search(search(tmp_path, trials=7), returns_its_rate, Place())
    assert more[:2] == found and [trial.state for trial in more[2:]] == [*2 * ["complete"], "pruned", *2 * ["complete"]]
    assert "trial-0004 counts as pruned: the reward looks hacked" in capsys.readouterr().err
    assert all(trial.value == pytest.approx(trial.options["ppo.lr"]) for trial in more if trial.value is not None)
    assert len({trial.options["ppo.lr"] for trial in more}) == 7  # nothing is proposed twice


@pytest.mark.timeout(300)
def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "t.toml").write_text(
        'command = "pretrain"\n[options]\nenv_id = "CartPole-v1"\ntotal_steps = 20480\ncheckpoint_seconds = 0.0\n'
        "ppo = {num_envs = 4, num_steps = 64}\n[space.ppo]\nlr = {low = 1e-4, high = 1e-2, log = true}\n"
    )
    command = [sys.executable, "-m", "rlhf_control", "tune", "t.toml", "--trials", "4", "--out", "out"]
    driver = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("out/trial-*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in tmp_path.glob("out/trial-*")) == [f"trial-000{i}" for i in range(4)]
    assert "ppo.lr = " in (tmp_path / "out" / "preset.toml").read_text()
    preset = [sys.executable, "-m", "rlhf_control", "pretrain", "CartPole-v1", "--preset", "out/preset.toml",
              "--total-steps", "256", "--out", "one"]  # fmt: skip
    assert subprocess.run(preset, cwd=tmp_path, capture_output=True, timeout=100).returncode == 0
    assert Run.open(tmp_path / "one").config()[1].ppo.num_envs == 4
