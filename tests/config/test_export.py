import pytest

from rlhf_control.config.export import ExportConfig
from rlhf_control.errors import UserError


def test_formats_are_known_by_name() -> None:
    assert ExportConfig("p").to == "sb3"
    with pytest.raises(UserError, match="did you mean torchscript"):
        ExportConfig("p", to="torchscrip")  # type: ignore[arg-type]
