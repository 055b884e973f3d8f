from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig
from rlhf_control.config.options import nested, with_options
from rlhf_control.config.presets import preset
from rlhf_control.config.requests import config_of
from rlhf_control.errors import UserError


def test_options_are_changes_of_a_config() -> None:
    config = config_of("pretrain", {"env-id": "X", "ppo": {"lr": 1e-4}, "net": {"hidden": [8, 8]}})
    assert config == with_options(PretrainConfig("X"), nested({"ppo.lr": 1e-4, "net.hidden": [8, 8]}))
    assert config.ppo.lr == 1e-4 and config.net.hidden == (8, 8)


def test_what_a_config_begins_from_is_changed() -> None:
    config = config_of("pretrain", {"env_id": "X", "ppo": {"lr": 1e-4}}, lambda c: replace(c, ppo=PPOConfig(epochs=3)))
    assert (config.ppo.lr, config.ppo.epochs) == (1e-4, 3)
    assert config_of("pretrain", {"env_id": "X"}, lambda c: None) == PretrainConfig("X")


def test_what_fine_tuning_begins_from_knows_the_environment_that_is_given() -> None:
    """A file of another library does not: the preset of its task would be missed."""
    asked: list[FinetuneConfig] = []
    config_of("finetune", {"policy": "model.zip", "env-id": "Hopper-v5", "labels": 9}, asked.append)
    assert asked == [FinetuneConfig("model.zip", "Hopper-v5")]


def test_a_file_is_a_preset_too(tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    file.write_text('command = "pretrain"\n[options]\nenv_id = "Y"\nppo.lr = 0.1\nnet.hidden = [8]\n')
    config = preset("X", str(file))
    assert (config.env_id, config.ppo.lr, config.net.hidden, config.preset) == ("X", 0.1, (8,), str(file))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "env_id is missing"),
        ({"env_id": 3}, "env_id is missing"),
        ({"env_id": "X", "ppo": {"lrr": 1}}, r"unknown option 'ppo.lrr'; did you mean ppo.lr"),
        ({"env_id": "X", "ppo": 1}, "ppo is 1; it is a group"),
        ({"env_id": "X", "preset": "tunde"}, "unknown preset 'tunde'; did you mean tuned"),
    ],
)
def test_wrong_options_are_named(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_of("pretrain", options)
    with pytest.raises(UserError, match="unknown command 'pretran'; did you mean pretrain"):
        config_of("pretran", options)
