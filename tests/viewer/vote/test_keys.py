import pytest

from rlhf_control.viewer.kit.window import Key
from rlhf_control.viewer.vote.keys import ANYWHERE, COMPARISON, GROUPS, RANKING, RATING, action_of, help_lines, mode


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (Key("left"), "prefer 0"), (Key("a", "a"), "prefer 0"), (Key("a", "A", shift=True), "prefer 0"),
        (Key("right"), "prefer 1"), (Key("d", "d"), "prefer 1"), (Key("up"), "tie"), (Key("w", "w"), "tie"),
        (Key("down"), "cannot tell"), (Key("s", "s"), "cannot tell"), (Key("backspace"), "undo"),
        (Key("z", "\x1a", ctrl=True), "undo"), (Key("z", "z"), ""), (Key("space", " "), "pause"), (Key("r"), "restart"),
        (Key(",", ","), "back"), (Key(".", "."), "forward"), (Key("[", "["), "slower"), (Key("]", "]"), "faster"),
        (Key("8", "[", ctrl=True), "slower"), (Key("ü", "["), "slower"), (Key("c"), "camera"), (Key("h"), "help"),
        (Key("/", "?", shift=True), "help"), (Key("/", shift=True), "help"), (Key("ß", "?", shift=True), "help"),
        (Key("escape"), "leave"), (Key("q", "\x11", ctrl=True), "leave"), (Key("a", "\x01", ctrl=True), ""),
        (Key("return", "\r"), ""), (Key("3", "3"), ""), (Key("f5"), ""), (Key("k"), "correct"), (Key("m"), "sound"),
    ],
)  # fmt: skip
def test_keys_of_a_comparison(key: Key, action: str) -> None:
    assert action_of(key, COMPARISON) == action


def test_keys_of_rankings_and_ratings() -> None:
    assert action_of(Key("3", "3"), RANKING) == "place 2"
    assert action_of(Key("3", "#", shift=True), RANKING) == "tie with 2"
    assert action_of(Key("return", "\r"), RANKING) == "confirm" and action_of(Key("t", "t"), RANKING) == "tie switch"
    assert action_of(Key("left"), RANKING) == "" and action_of(Key("s"), RANKING) == "cannot tell"
    assert action_of(Key("5"), RATING) == "rate 5" and action_of(Key("6"), RATING) == ""
    assert action_of(Key("6"), RATING, levels=7) == "rate 6" and action_of(Key("0"), RATING) == ""
    assert action_of(Key("backspace"), "") == "undo" and action_of(Key("left"), "") == ""  # no question
    assert [mode(n) for n in (1, 2, 3, 6)] == [RATING, COMPARISON, RANKING, RANKING]
    assert mode(6, "groups") == GROUPS and action_of(Key("left"), GROUPS) == "prefer 0"


def test_the_help_names_every_key() -> None:
    for how in (COMPARISON, RANKING, RATING, GROUPS, ""):
        lines = help_lines(how, correctable=True)
        keys = " ".join(keys for keys, _ in lines).lower()
        for key in ANYWHERE:
            assert {"escape": "esc", "h": "", "?": "", "f1": ""}.get(key, key) in keys, (how, key)
        assert len(help_lines(how, correctable=False)) == len(lines) - 1 and len(lines) <= 15
