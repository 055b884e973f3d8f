from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.config.options import config_of, merged, nested, read_toml, with_options
from rlhf_control.errors import UserError


def test_options_are_changes_of_a_config() -> None:
    config = config_of("pretrain", {"env-id": "X", "ppo": {"lr": 1e-4}, "net": {"hidden": [8, 8]}})
    assert config == with_options(PretrainConfig("X"), nested({"ppo.lr": 1e-4, "net.hidden": [8, 8]}))
    assert config.ppo.lr == 1e-4 and config.net.hidden == (8, 8)


def test_the_upper_options_count() -> None:
    assert merged({"a-b": 1, "ppo": {"lr": 1, "clip": 2}}, {"a_b": 3, "ppo": {"lr": 4}}) == {
        "a_b": 3, "ppo": {"lr": 4, "clip": 2}
    }  # fmt: skip


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


def test_what_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not TOML"):
        read_toml(tmp_path / "x")
    with pytest.raises(UserError, match="cannot read"):
        read_toml(tmp_path / "y")
