from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.sweeps.matrix import read_matrix

TOML = """
command = "finetune"
seeds = "0,2"
metric = "score"
[options]
policy = "halfcheetah"
labels = 40
ppo.lr = 1e-4
ppo.epochs = 3
[tasks.jump]
oracle = "jump"
[tasks.backward]
env = {exclude_current_positions_from_observation = false}
[methods.uniform]
queries = "uniform"
[methods.slow]
ppo.lr = 1e-5
reward.hidden = [32, 32]
clip-seconds = 1.0
"""


def written(tmp_path: Path, text: str, name: str = "sweep.toml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_a_matrix_is_seeds_by_tasks_by_methods(tmp_path: Path) -> None:
    matrix = read_matrix(written(tmp_path, TOML), "runs/x", lambda config: replace(config, ppo=PPOConfig(clip=0.1)))
    assert matrix.metric == "score"
    assert [cell.name for cell in matrix.cells] == [
        "jump-uniform-0", "jump-uniform-2", "jump-slow-0", "jump-slow-2",
        "backward-uniform-0", "backward-uniform-2", "backward-slow-0", "backward-slow-2",
    ]  # fmt: skip
    cell = matrix.cells[3]
    assert (cell.task, cell.method, cell.config.seed, cell.config.out) == ("jump", "slow", 2, "runs/x/jump-slow-2")
    config = cell.config
    assert isinstance(config, FinetuneConfig) and config.labels == 40 and config.oracle == "jump"
    assert config.reward.hidden == (32, 32) and config.clip_seconds == 1.0
    assert config.ppo == PPOConfig(lr=1e-5, epochs=3, clip=0.1)
    assert matrix.cells[4].config.env == {"exclude_current_positions_from_observation": False}


def test_a_preset_is_what_options_are_changes_of(tmp_path: Path) -> None:
    text = 'command = "pretrain"\n[options]\nenv_id = "Ant-v5"\npreset = "tuned"\nppo.epochs = 4\nenv.x = 1\n'
    (cell,) = read_matrix(written(tmp_path, text), "runs").cells
    config = cell.config
    assert isinstance(config, PretrainConfig) and cell.name == "run-0" and config.preset == "tuned"
    assert (config.ppo.num_envs, config.ppo.epochs, config.net.log_std_init) == (64, 4, -1.0)
    assert config.env == {"include_cfrc_ext_in_observation": False, "x": 1}


PYTHON = """
from dataclasses import replace
from rlhf_control import PretrainConfig
base = PretrainConfig("CartPole-v1", seeds="0-1")
def runs():
    return {"cart": base, "pole/long": replace(base, seeds="", seed=7, total_steps=9)}
"""


def test_a_python_file_gives_configs(tmp_path: Path) -> None:
    cells = read_matrix(written(tmp_path, PYTHON, "sweep.py"), "runs").cells
    assert [(c.name, c.config.seed, c.task, c.method) for c in cells] == [
        ("cart-0", 0, "cart", ""), ("cart-1", 1, "cart", ""), ("pole-long-7", 7, "pole", "long")
    ]  # fmt: skip
    listed = read_matrix(written(tmp_path, PYTHON + "runs = [base]\n", "sweep.py"), "runs").cells
    assert [c.name for c in listed] == ["000-0", "000-1"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[tasks.jump]", "[task.jump]", "unknown key 'task'; did you mean tasks"),
        ("ppo.epochs", "ppo.epoch", "jump/uniform: unknown option 'ppo.epoch'; did you mean ppo.epochs"),
        ("labels = 40", "lables = 40", "unknown option 'lables'; did you mean labels"),
        ("labels = 40", "ppo = 3", "not TOML"),
        ("labels = 40", "reward = 3", "reward is 3; it is a group"),
        ("labels = 40", "labels = 'x'", "labels is 'x'"),
        ("labels = 40", "seed = 3", "write seeds"),
        ("labels = 40", "out = 'x'", "--out names"),
        ("labels = 40", "oracle = 'human'", "use an oracle"),
        ('oracle = "jump"', 'oracle = "human"', "jump-uniform-0 asks people"),
        ("finetune", "fintune", "unknown command 'fintune'; did you mean finetune"),
        ('command = "finetune"', "", "command is missing"),
        ("0,2", "0;2", "seeds is '0;2'"),
        ('policy = "halfcheetah"', "", "policy is missing"),
        ("[tasks.jump]", '[tasks."../jump"]', "cannot be a folder's name"),
        ("[tasks.backward]", "[tasks]\nbackward = 3\n[other]", "other"),
        ("[methods.uniform]", "[methods.uniform", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TOML
    with pytest.raises(UserError, match=words) as error:
        read_matrix(written(tmp_path, TOML.replace(old, new, 1)), "runs")
    assert "sweep.toml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "no list, dictionary or function `runs`"),
        ("runs = [3]", "000 is a int"),
        ("def runs(): raise ValueError('oh')", r"runs\(\) failed: ValueError: oh"),
        ("1 / 0", "ZeroDivisionError"),
        ("runs = {}", "has no runs"),
        ("runs = [", "SyntaxError"),
    ],
)
def test_a_python_file_that_gives_no_configs_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_matrix(written(tmp_path, text, "sweep.py"), "runs")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_matrix(str(tmp_path / "sweep.toml"), "runs")
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_matrix(str(tmp_path / "sweep.py"), "runs")
    with pytest.raises(UserError, match=r"neither TOML nor Python"):
        read_matrix(str(tmp_path / "sweep.yaml"), "runs")
