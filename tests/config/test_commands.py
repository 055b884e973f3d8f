import getpass

import pytest

from rlhf_control.config.commands import LabelConfig, PlayConfig, login_name
from rlhf_control.errors import UserError


def test_an_annotator_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LabelConfig("r").annotator == login_name() != ""

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert LabelConfig("r").annotator == "person"
    with pytest.raises(UserError, match="--annotator"):
        LabelConfig("r", annotator=" ")


def test_the_windows_size() -> None:
    assert LabelConfig("r").width_and_height() is None  # what fits the display
    assert LabelConfig("r", size="2560x1440").width_and_height() == (2560, 1440)
    for size in ("1280", "1280x", "x", "0x0", "1280 x 720", "-100x100"):
        with pytest.raises(UserError, match="1280x720"):
            LabelConfig("r", size=size)


@pytest.mark.parametrize("change", [{"speed": 0.0}, {"speed": 5.0}, {"levels": 1}, {"levels": 10}, {"seed": -1}])
def test_labelling_options_out_of_range(change: dict) -> None:
    with pytest.raises(UserError):
        LabelConfig("r", **change)


def test_playing_options() -> None:
    PlayConfig("CartPole-v1", fps=None)
    with pytest.raises(UserError, match="fps"):
        PlayConfig("CartPole-v1", fps=0)
