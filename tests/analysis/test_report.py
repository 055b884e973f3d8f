import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.analysis.report import (
    commands,
    ends_note,
    horizon_note,
    report_finetuning,
    report_pretraining,
    setting,
)
from rlhf_control.cli import main
from rlhf_control.config import AnnotatorConfig, FinetuneConfig, NetConfig, PretrainConfig
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.run import Run
from rlhf_control.simulation import early_ends
from rlhf_control.simulation.vector import start_envs
from rlhf_control.train import finetune, pretrain
from tests.conftest import TINY_PPO


def test_the_report_of_a_run(tiny_config: FinetuneConfig) -> None:
    run = finetune(replace(tiny_config, video=True))
    table = report_finetuning(run, note="Five seeds gave so and so.")
    text = (run.path / "report.md").read_text()
    results = json.loads((run.path / "results.json").read_text())
    before, after = (f"{np.mean(results[when]['returns']):.0f}" for when in ("before", "after"))
    assert before in table and after in text and "![Learning curves](curves.png)" in text
    assert "Five seeds gave so and so." in text and "12 labels" in text
    assert f"HalfCheetah-v5, from {tiny_config.policy}; `--first-labels 6`, `--rounds 3`, " in text
    assert results["labels"] == 12 and len(results["after"]["scores"]) == 10
    assert (run.path / "before_after.mp4").stat().st_size > 10_000
    typed = [shlex.split(command) for command in re.findall("`(rlhf-control [^`]*)`", text)]
    assert [words[1] for words in typed] == ["evaluate", "evaluate-reward", "record", "watch"]
    assert main(typed[0][1:]) == 0


def test_commands_name_an_environment_of_ones_own(tiny_config: FinetuneConfig, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "my run", "finetune", replace(tiny_config, oracle="coin-flip"), env_id="own:Own-v0")
    assert f"`rlhf-control evaluate '{run.path}' --env-id own:Own-v0`" in commands(run, "own:Own-v0", "")
    assert "evaluate-reward" not in commands(run, "own:Own-v0", "")


class Flawed(gymnasium.Wrapper):
    """Draws no pictures."""

    def render(self) -> Any:
        return [[1, 2], [3]]


def test_a_video_that_cannot_be_drawn_does_not_cost_the_report(
    tiny_config: FinetuneConfig, cheetah_policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    gymnasium.register("Flawed-v0", lambda render_mode=None: Flawed(gymnasium.make("CartPole-v1")))
    try:
        envs = start_envs("Flawed-v0", 1, seed=0)
        Policy(envs.spaces, NetConfig((8,)), 0, "Flawed-v0", {}).save(Path(tiny_config.policy))
        run = finetune(replace(tiny_config, video=True, oracle="env", score="", clip_seconds=0.1, termination="allow"))
        report_finetuning(run)
    finally:
        gymnasium.registry.pop("Flawed-v0")
    assert "rlhf-control: no video: Flawed-v0 cannot be drawn: its render" in capsys.readouterr().err
    assert "Video" not in (run.path / "report.md").read_text()


def test_a_run_whose_episodes_never_end_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of returns that were cut off; that there is no time limit is said at the start."""
    monkeypatch.setattr(early_ends, "CUT_OFF", 50)
    config = PretrainConfig("Pendulum-v1", 160, out=str(tmp_path / "run"), env={"max_episode_steps": -1}, ppo=TINY_PPO)
    run = pretrain(config)
    assert capsys.readouterr().err.count("Pendulum-v1 names no time limit") == 1
    assert "over 10 episodes cut off after 50 steps" in report_pretraining(run)
    assert json.loads((run.path / "results.json").read_text())["cut_off_after"] == 50


def test_a_report_says_of_what_a_run_is() -> None:
    plain = FinetuneConfig("runs/walker", seed=3, out="x", video=False)
    assert setting(plain, "Walker2d-v5") == "Walker2d-v5, from runs/walker."
    mistaken = AnnotatorConfig(mistake=0.2, crowd=(1.0, -1.0))
    changed = replace(plain, annotator=mistaken, termination="penalty", labels=50, clip_seconds=0.5)
    assert setting(changed, "Walker2d-v5") == (
        "Walker2d-v5, from runs/walker; `--clip-seconds 0.5`, `--termination penalty`, `--annotator.mistake 0.2`, "
        "`--annotator.crowd 1.0 -1.0`."
    )
    others = replace(
        plain, normalize_reward=False, question="Which `one`?", env={"max_episode_steps": 50}, track="wandb"
    )
    assert setting(others, "Own-v0").partition("; ")[2] == (
        "`--question 'Which one ?'`, `--no-normalize-reward`, `--env max_episode_steps 50`."
    )


def test_a_report_says_that_its_episodes_are_longer_than_the_tasks_own() -> None:
    longer = {"terminate_when_unhealthy": False}
    late = FinetuneConfig("p", termination="truncate")
    assert "With `--termination truncate` what ends" in horizon_note(late, longer)
    assert "`--termination fixed-horizon`" in horizon_note(replace(late, termination="fixed-horizon"), longer)
    assert "`--termination truncate`" in horizon_note(late, {"endless": True})
    assert not horizon_note(late, {}) and not horizon_note(late, {"terminate_when_unhealthy": True})
    assert not horizon_note(replace(late, termination="penalty"), longer)


def test_what_an_end_was_found_to_cost_is_said() -> None:
    rows: list[dict[str, float]] = [{"labels": 0}, {"reward/end_costs": 6.0}, {"labels": 3}, {"reward/end_costs": 3.14}]
    assert ends_note(rows[:1], 6.0) == ""
    assert ends_note(rows[:2], 6.0) == "No answer told what an early end costs: it stayed 6, as it was given."
    for found in (rows, rows[2:]):  # of a run that went on with another treatment, the first fit knows answers
        said = "cost 6 standard deviations of the learned reward at first, and 3.1 (1.5 times what they say)"
        assert said in ends_note(found, 6.0)
