from pathlib import Path

import pytest

from rlhf_control.config import FinetuneConfig
from rlhf_control.config.search_space import SPACES, Span
from rlhf_control.config.sweeps import TuneConfig
from rlhf_control.errors import UserError
from rlhf_control.sweeps.tune_file import read_search

TOML = """
command = "finetune"
[options]
policy = "halfcheetah"
oracle = "backward"
[space]
reward.members = [1, 5]
ppo = {lr = {low = 1e-4, high = 1e-2, log = true}}
"""


def test_a_task_is_searched_in_the_space_beside_the_presets() -> None:
    search, about = read_search(TuneConfig("Hopper-v5", total_steps=1000, seed=3, trials=5))
    assert (
        search.space == SPACES["pretrain"]
        and search.metric == "env_return"
        and search.out == Path("runs/tune-Hopper-v5")
    )
    assert (search.config.total_steps, search.trials, search.seed) == (1000, 5, 3)
    assert about["options"] == {"env_id": "Hopper-v5", "total_steps": 1000}


def test_a_file_has_options_and_a_space(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(TOML)
    search, about = read_search(TuneConfig(str(tmp_path / "t.toml")))
    assert search.space == {"reward.members": (1, 5), "ppo.lr": Span(1e-4, 1e-2, log=True)}
    assert isinstance(search.config, FinetuneConfig) and not search.config.video and search.metric == "score"
    assert about == {
        "command": "finetune", "metric": "score", "options": {"policy": "halfcheetah", "oracle": "backward"}
    }  # fmt: skip
    (tmp_path / "t.toml").write_text(TOML.partition("[space]")[0])
    assert read_search(TuneConfig(str(tmp_path / "t.toml")))[0].space == SPACES["finetune"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[space]", "[spaces]", "unknown key 'spaces'; did you mean space"),
        ("finetune", "fintune", "unknown command 'fintune'"),
        ("reward.members", "reward.member", "unknown option 'reward.member'; did you mean reward.members"),
        ("[1, 5]", "[1, 0]", "reward.members is 0"),
        ("[1, 5]", "3", r"takes \[choices\]"),
        ("low = 1e-4", "low = 1", "the range from 1 to 0.01 is none"),
        ("low = 1e-4", "low = 0", "is none for log"),
        ("low = 1e-4", "lo = 1", r"takes \[choices\]|unknown option"),
        ('"backward"', '"human"', "cannot ask people"),
        ('oracle = "backward"', "seed = 3", "no options of a search"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TOML
    (tmp_path / "t.toml").write_text(TOML.replace(old, new))
    with pytest.raises(UserError, match=words) as error:
        read_search(TuneConfig(str(tmp_path / "t.toml")))
    assert "t.toml: " in str(error.value) and "\n" not in str(error.value)
