import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_control.cli import COMMANDS, main
from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import guarded
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.run import Run
from rlhf_control.viewer.vote import label as label_window
from rlhf_control.viewer.watch import watch as watch_window

TINY = ["--ppo.num-envs", "2", "--ppo.num-steps", "32", "--ppo.minibatch-size", "16", "--ppo.epochs", "1"]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(lines) == len(COMMANDS) and all(line.endswith(".") for line in lines)  # whole sentences
    assert main([]) == 0 and main(["--version"]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["finetun"], "did you mean finetune"),
        (["pretrain", "HalfChetah-v5"], "did you mean HalfCheetah-v5"),
        (["finetune", "nowhere"], "no policy at nowhere"),
        (["finetune", "halfcheetah", "--labels", "abc"], "--labels"),
        (["finetune", "halfcheetah", "--ppo.lrr", "1"], "Unrecognized options: --ppo.lrr, 1; did you mean --ppo.lr"),
        (
            ["finetune", "halfcheetah", "--termination", "stop"],
            "one of allow, fixed-horizon, penalty, refuse, truncate. (",
        ),
        (["resume", "nowhere", "--termination", "stop"], "Expected one of allow, penalty, truncate. ("),
        (
            ["pretrain", "--env-id", "Ant-v5"],
            "env-id goes without a name: rlhf-control pretrain ENV-ID",
        ),
        (["pretrain", "--seeed", "1", "Ant-v5"], "an option before ENV-ID is not known; put ENV-ID first"),
        (["finetune", "halfcheetah", "--no-staggr"], "did you mean --stagger or --no-stagger"),
        (["finetune", "halfcheetah", "--seeed", "1", "--oracel", "env"], "--oracel, env; did you mean --"),
        (["finetune", "halfcheetah", "--oracle", "mine"], "known: backward, coin-flip, env, "),
        (["finetune", "halfcheetah", "--oracle", "mine"], "one of your own has to be in --behaviours FILE"),
        (["finetune", "halfcheetah", "--ppo.lr"], "--ppo.lr"),
        (["finetune"], "required"),
        (["finetune", "halfcheetah", "--learn-from", "vote"], "vote"),
        (["finetune", "halfcheetah", "--oracle", "prowll"], "did you mean prowl"),
        (["finetune", "halfcheetah", "--ppo.lr", "-1"], "lr is -1"),
        (["evaluate", "halfcheetah", "--episodes", "0"], "episodes is 0"),
        (["evaluate", "halfcheetah", "--score", "prowll"], "did you mean prowl"),
        (["record", "halfcheetah", "--out", "x.avi"], "mp4"),
        (["plot", "nowhere"], "nowhere"),
        (["resume", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and err.startswith("rlhf-control: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["label", "play", "watch"])
def test_windows_are_imported_when_they_are_asked_for(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def window(config: Any) -> int:
        seen.append(config)
        return 3

    package = {"label": "vote"}.get(command, command)
    monkeypatch.setitem(sys.modules, f"rlhf_control.viewer.{package}.{command}", SimpleNamespace(**{command: window}))  # type: ignore[arg-type]
    assert main([command, "something"]) == 3
    assert vars(seen[0])["name" if command == "play" else "run"] == "something"


@pytest.mark.parametrize("what", ["ppo", "window", "reward"])
def test_every_bench_is_found(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    stub = SimpleNamespace(**{f"bench_{what}": lambda config: f"figures of {config.what}"})
    monkeypatch.setitem(sys.modules, f"rlhf_control.bench.{what}", stub)  # type: ignore[arg-type]
    assert main(["bench", what]) == 0 and capsys.readouterr().out == f"figures of {what}\n"


def test_debug_shows_the_traceback() -> None:
    arguments = [sys.executable, "-m", "rlhf_control", "finetune", "nowhere", "--debug"]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode != 0 and "Traceback" in result.stderr and "UserError" in result.stderr


def test_pretrain_evaluate_plot_record_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "cart")
    assert main(["pretrain", "CartPole-v1", "--total-steps", "256", "--out", run, *TINY]) == 0
    assert "sha256" in capsys.readouterr().out
    assert main(["evaluate", run, "--episodes", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["returns"]) == 3 and result["return_mean"] == pytest.approx(sum(result["returns"]) / 3)
    assert main(["plot", run, "--out", str(tmp_path / "c")]) == 0
    assert (tmp_path / "c.png").exists() and (tmp_path / "c.pdf").exists()
    assert main(["record", run, "--out", str(tmp_path / "v.mp4"), "--seconds", "0.2"]) == 0
    assert (tmp_path / "v.mp4").stat().st_size > 1000
    assert main(["resume", run]) == 0
    assert len(Run.open(run).metrics()) == 4


def test_an_environment_of_ones_own_goes_through_every_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_envs.py").write_text(
        "import gymnasium\n"
        "make = 'gymnasium.envs.classic_control:PendulumEnv'\n"
        "gymnasium.register('Own-v0', make, max_episode_steps=60)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    named = ["--env-id", "own_envs:Own-v0"]
    assert main(["pretrain", "own_envs:Own-v0", "--total-steps", "256", "--out", "p", *TINY]) == 0
    assert (tmp_path / "p" / "results.json").exists()
    labels = ["--labels", "6", "--first-labels", "4", "--rounds", "2", "--clip-seconds", "0.5", "--reward.steps", "30"]
    arguments = ["--oracle", "env", *labels, "--total-steps", "512", *TINY]
    assert main(["finetune", "p", *named, "--out", "f", *arguments]) == 0
    assert {"report.md", "results.json", "before_after.mp4"} <= {p.name for p in (tmp_path / "f").iterdir()}
    measure = ["--episodes", "1", "--pairs", "20"]
    capsys.readouterr()
    for reads in (["resume", "p"], ["resume", "f"], ["evaluate-reward", "f", *measure], ["record", "p", "f"]):
        assert main(reads) == 2
        assert "would import own_envs; if you trust it, give --env-id own_envs:Own-v0" in capsys.readouterr().err
        assert main([*reads, *named]) == 0
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(label_window, "vote_in", lambda *_: 0)
    monkeypatch.setattr(watch_window, "Room", NoRoom)
    for looks in (["label", "f"], ["watch", "f"]):
        assert main(looks) == 2
        assert "would import own_envs; if you trust it, give --env-id own_envs:Own-v0" in capsys.readouterr().err
        assert main([*looks, *named]) == 0


class NoRoom:
    """Of a person who leaves at once."""

    def __init__(self, *_: object) -> None: ...

    def go(self, place: int) -> None: ...

    def step(self) -> bool:
        return False

    def close(self) -> None: ...


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    FeedbackStore(tmp_path / "labels.sqlite")
    command = [sys.executable, "-m", "rlhf_control", "labels", str(tmp_path / "labels.sqlite")]
    for unbuffered in ("", "1"):
        reads, writes = os.pipe()
        os.close(reads)
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        result = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, env=environment)
        os.close(writes)
        assert result.stderr == "" and result.returncode == 128 + signal.SIGPIPE


def test_the_sb3_baseline_goes_through_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "sb3")
    assert main(["pretrain", "CartPole-v1", "--total-steps", "256", "--learner", "sb3", "--out", run, *TINY]) == 0
    assert main(["evaluate", run, "--episodes", "2"]) == 0
    assert len(Run.open(run).metrics()) == 4 and (Path(run) / "curves.png").exists()
    assert main(["resume", run]) == 2


def test_finetune_from_the_command_line(
    tiny_config: FinetuneConfig, cheetah_policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f"
    arguments = [
        "--labels",
        "6",
        "--first-labels",
        "4",
        "--rounds",
        "2",
        "--clip-seconds",
        "0.5",
        "--total-steps",
        "512",
    ]
    fast = ["--reward.steps", "30", "--ppo.num-envs", "4", *TINY[2:]]
    assert main(["finetune", tiny_config.policy, "--oracle", "backward", "--out", str(out), *arguments, *fast]) == 0
    table = capsys.readouterr().out
    assert "m/s backward" in table and "environment return" in table
    names = {p.name for p in out.iterdir()}
    assert {"report.md", "curves.png", "curves.pdf", "before_after.mp4", "results.json", "labels.sqlite"} <= names
    assert main(["evaluate", str(out), "--episodes", "2", "--json"]) == 0
    assert {"returns", "return_mean", "score_mean"} <= json.loads(capsys.readouterr().out).keys()

    assert main(["labels", str(out), "--export", str(tmp_path / "labels"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) and (tmp_path / "labels" / "queries.jsonl").exists()
    assert main(["evaluate-reward", str(out), "--episodes", "1", "--pairs", "20"]) == 0
    assert "on-policy" in capsys.readouterr().out
    assert {"reward_evaluation.json", "reward_evaluation.md", "reward_evaluation.png"} <= {
        p.name for p in out.iterdir()
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["behaviours"], ["finetune", "--help"], ["label", "r", "--annotator", b"\xff\xfe"], [b"\xff"],
        ["pretrain", "CartPole-v1", "--env", "x", b"\xff"], ["finetune", "halfcheetah", "--question", "\u00e4\u2192"],
        ["finetune", "halfcheetah", "--out", b"\xff"], ["evaluate", b"\xff"], ["plot", b"\xff"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}])
def test_no_traceback_for_bytes_that_are_no_text(arguments: list, locale: dict[str, str], tmp_path: Path) -> None:
    nothing = ["--labels", "0"] if "halfcheetah" in arguments else []  # to learn from, so nothing runs
    command = [sys.executable, "-m", "rlhf_control", *arguments, *nothing]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path, env={**os.environ, **locale})
    assert result.returncode in (0, 2) and b"Traceback" not in result.stderr + result.stdout
    assert result.returncode == 0 or result.stderr.count(b"\n") == 1
    assert not result.returncode or b"\xff" not in result.stderr


def test_a_terminal_in_ascii_shows_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "# -*- coding: utf-8 -*-\nfrom rlhf_control import BEHAVIOURS, Behaviour\n"
        "BEHAVIOURS['mine'] = Behaviour('X-v0', 'H\u00f6her?', lambda s: s.env_reward, lambda s: 0, 'm')\n",
        encoding="utf-8",
    )
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "rlhf_control", "behaviours", "--behaviours", "mine.py", "--env-id", "X-v0"]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path, env=ascii_only, text=True)
    assert result.returncode == 0 and r"H\xf6her?" in result.stdout


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def too_much() -> int:
        raise MemoryError("no memory for the update")

    assert guarded(too_much) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "not enough memory (no memory for the update); make --ppo.num-envs" in said[0]
    with pytest.raises(MemoryError):
        guarded(too_much, debug=True)
