from pathlib import Path

import pytest

from rlhf_control.config.options import merged, read_toml
from rlhf_control.errors import UserError


def test_the_upper_options_count() -> None:
    assert merged({"a-b": 1, "ppo": {"lr": 1, "clip": 2}}, {"a_b": 3, "ppo": {"lr": 4}}) == {
        "a_b": 3, "ppo": {"lr": 4, "clip": 2}
    }  # fmt: skip


def test_what_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not TOML"):
        read_toml(tmp_path / "x")
    with pytest.raises(UserError, match="cannot read"):
        read_toml(tmp_path / "y")
