import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.analysis.axes import metric_label
from rlhf_control.analysis.curves import load_curves
from rlhf_control.behaviours.catalogue import BEHAVIOURS, check_env_of
from rlhf_control.behaviours.own import SHIPPED, load_behaviours, table
from rlhf_control.cli import main
from rlhf_control.config import FinetuneConfig
from rlhf_control.config.checks import field_texts
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run
from rlhf_control.train import finetune

HEADER = """from pathlib import Path
import numpy as np
from rlhf_control import BEHAVIOURS, Behaviour, Segments
Array = np.ndarray
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """As a new process would have it."""
    BEHAVIOURS.clear()
    BEHAVIOURS.update(SHIPPED)
    for name in [name for name in sys.modules if name.startswith("rlhf_control_behaviours_")]:
        del sys.modules[name]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example in CONTRIBUTING.md, which leaves a trace when it runs."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    assert len(example.splitlines()) <= 10
    (tmp_path / "mine.py").write_text(f"{HEADER}Path('ran').touch()\n{example}")
    monkeypatch.chdir(tmp_path)
    return "mine.py"


def ran() -> bool:
    """Whether the user's code ran since this was asked the last time."""
    trace = Path("ran")
    there = trace.exists()
    trace.unlink(missing_ok=True)
    return there


def test_a_behaviour_of_ones_own_goes_through_every_verb(
    mine: str, tiny_config: FinetuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    ppo = ["--ppo.num-envs", "4", "--ppo.num-steps", "40", "--ppo.minibatch-size", "32", "--ppo.epochs", "1"]
    labels = ["--labels", "6", "--first-labels", "4", "--rounds", "2", "--clip-seconds", "0.5", "--reward.steps", "20"]
    start = ["finetune", tiny_config.policy, "--total-steps", "640", "--no-video", "--out", "run", *labels, *ppo]
    assert main([*start, "--oracle", "bounce", "--behaviours", mine]) == 0 and ran()
    assert "score (m, highest)" in capsys.readouterr().out
    assert f"evaluate run --behaviours {mine}" in Path("run/report.md").read_text()
    assert json.loads(Path("run/config.json").read_text())["config"]["behaviours"] == mine

    few = ["--episodes", "1"]
    reads = (["resume", "run"], ["evaluate", "run", *few], ["evaluate-reward", "run", *few, "--pairs", "20"])
    for words in reads:
        forget()
        assert main(words) == 2 and not ran()
        assert "run is about 'bounce', a behaviour of mine.py and so code" in capsys.readouterr().err
        assert main([*words, "--behaviours", mine]) == 0 and ran()
    assert "not as it was" not in capsys.readouterr().err

    forget()
    for words in (["plot", "run"], ["labels", "run"], ["record", "run", "--seconds", "0.2"]):
        assert main(words) == 0 and not ran()
    assert metric_label("score", load_curves(["run"])) == "bounce score (m, highest)"

    Path(mine).write_text(Path(mine).read_text() + "\n# changed\n")
    assert main(["evaluate", "run", *few, "--behaviours", mine]) == 0
    assert "mine.py is not as it was when run was started" in capsys.readouterr().err


def test_the_list_names_them_all(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["behaviours"]) == 0
    listed = capsys.readouterr().out
    told, readme = field_texts(FinetuneConfig)["oracle"], (Path(__file__).parents[2] / "README.md").read_text()
    for name, behaviour in SHIPPED.items():
        assert all(words in listed for words in (name, behaviour.env_id, behaviour.question, behaviour.unit))
        assert name in told and name in readme.partition("| `behaviours` |")[2].partition("\n")[0]
    assert main(["behaviours", "--behaviours", mine, "--env-id", "HalfCheetah-v5"]) == 0
    listed = capsys.readouterr().out
    assert "bounce" in listed and "backflip" not in listed
    with pytest.raises(UserError, match="no behaviours for CartPole-v1"):
        table("CartPole-v1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "adds no behaviour"),
        ("BEHAVIOURS['backward'] = BEHAVIOURS['jump']", "replaces the behaviour 'backward'"),
        ("del BEHAVIOURS['spin']", "replaces the behaviour 'spin'"),
        ("BEHAVIOURS['mine'] = 3", "has a int as 'mine'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_files_that_will_not_do(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{HEADER}{text}\n")
    with pytest.raises(UserError, match=words):
        load_behaviours(str(tmp_path / "mine.py"))
    assert BEHAVIOURS == SHIPPED


def test_modules_beside_me(mine: str) -> None:
    Path(mine).rename("my_behaviours_module.py")
    for missing in (mine, "no_such_module"):
        with pytest.raises(UserError, match=missing):
            load_behaviours(missing)
    load_behaviours("my_behaviours_module")
    assert "bounce" in BEHAVIOURS and str(Path.cwd()) not in sys.path
    assert load_behaviours("my_behaviours_module") == load_behaviours("./my_behaviours_module.py")


def test_a_config_that_was_edited_runs_nothing(mine: str, tiny_config: FinetuneConfig) -> None:
    from rlhf_control.runs.run import Run

    Run.create("run", "finetune", replace(tiny_config, behaviours=mine, oracle="bounce"))
    assert main(["resume", "run"]) == 2 and not ran()
    Run.create("other", "finetune", replace(tiny_config, behaviours=mine, oracle="backward"))
    assert main(["resume", "other"]) == 0 and not ran()


@pytest.mark.parametrize(
    ("reward", "score", "words"),
    [
        (
            "s.next_obs.mean(-1).mean(-1)",
            "s.state[..., 0].mean(-1)",
            r"reward of the behaviour 'own' of own.py has shape",
        ),
        ("s.nextobs[..., 0]", "s.state[..., 0].mean(-1)", "reward .* fails: AttributeError: .*nextobs.*next_obs"),
        ("s.next_obs[..., 0]", "s.next_obs[..., 0]", r"score .* has shape \(.*a number for each clip"),
        ("s.next_obs[..., 99]", "s.next_obs[..., 0].mean(-1)", "reward .* fails: IndexError"),
    ],
)
def test_what_is_wrong_with_a_reward_or_a_score_is_said_in_the_first_iterations(
    reward: str, score: str, words: str, tiny_config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    behaviour = f"Behaviour('HalfCheetah-v5', 'Which?', lambda s: {reward}, lambda s: {score}, 'm')"
    Path("own.py").write_text(f"{HEADER}BEHAVIOURS['own'] = {behaviour}\n")
    with pytest.raises(UserError, match=words) as error:
        finetune(replace(tiny_config, oracle="own", behaviours="own.py"))
    assert "\n" not in str(error.value)
    assert len(Run.open(Path(tiny_config.out)).metrics()) <= 1


def test_a_behaviour_without_the_module_of_its_environment_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        f"{HEADER}BEHAVIOURS['own'] = Behaviour('Own-v0', 'Which?', lambda s: s.env_reward, lambda s: s, 'm')\n"
    )
    load_behaviours(str(tmp_path / "own.py"))
    with pytest.raises(UserError, match=r'write Behaviour\("mine:Own-v0", ...\)'):
        check_env_of("own", "mine:Own-v0")
    with pytest.raises(UserError, match="for Hopper-v5 there are backflip and env"):
        check_env_of("own", "Hopper-v5")
