from typing import Any

import pytest
from ale_py import roms

from rlhf_control.config.presets import ATARI
from rlhf_control.simulation.atari.preprocessing import DQN, HEIGHT, SCORES, WIDTH, Preprocessing, hidden, preprocessing


def test_the_preset_is_dqns_way() -> None:
    assert ATARI.env == DQN
    changed = preprocessing(DQN)
    assert all(getattr(changed, name) != getattr(Preprocessing(), name) for name in DQN)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frame_skip": 4}, "frame_skip is no option of ALE's games; there are frameskip"),
        ({"frameskip": 2.5}, "frameskip is 2.5, not a whole number"),
        ({"frameskip": True}, "frameskip is True, not a whole number"),
        ({"frameskip": 0}, r"frameskip is 0; it must lie in \[1, 60\]"),
        ({"episodic_life": "false"}, "episodic_life is 'false', not True or False"),
        ({"episodic_life": 1}, "episodic_life is 1, not True or False"),
        ({"repeat_action_probability": 2}, r"must lie in \[0, 1\]"),
        ({"hide_score": "above"}, "not auto or four whole numbers"),
        ({"hide_score": "0,220,10,10"}, "hides nothing"),
    ],
)
def test_what_it_does_not_have_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        preprocessing(given)


def test_known_scores_lie_on_the_screen() -> None:
    assert set(SCORES) <= set(roms.get_all_rom_ids())
    assert all(x + w <= WIDTH and y + h <= HEIGHT and w * h < WIDTH * HEIGHT / 8 for x, y, w, h in SCORES.values())


def test_where_the_score_stands() -> None:
    assert hidden("", "pong") is None
    assert hidden("auto", "pong") == (0, 0, 160, 24)
    assert hidden("1, 2,3,4", "pong") == (1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"where adventure shows its score is not known, only of .*pong"):
        hidden("auto", "adventure")
