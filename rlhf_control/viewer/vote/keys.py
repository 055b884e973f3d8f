"""What the voting window is made of, without any drawing: the clock of the clips, the order of a ranking, and which
key means what."""

from rlhf_control.viewer.kit.window import Key

COMPARISON, RANKING, RATING, SUCCESS, GROUPS = (  # how a question is put
    "comparison", "ranking", "rating", "success", "groups"
)  # fmt: skip

ANYWHERE = {
    "backspace": "undo", "space": "pause", "r": "restart", ",": "back", ".": "forward", "[": "slower", "]": "faster",
    "c": "camera", "h": "help", "?": "help", "f1": "help", "escape": "leave", "m": "sound", "k": "correct",
}  # fmt: skip
SIGNS = (",", ".", "[", "]", "?")
COMPARING = {
    "left": "prefer 0", "a": "prefer 0", "right": "prefer 1", "d": "prefer 1", "up": "tie", "w": "tie",
    "down": "cannot tell", "s": "cannot tell",
}  # fmt: skip
JUDGING = {"down": "cannot tell", "s": "cannot tell"}
MARKING = JUDGING | {
    **dict.fromkeys(("right", "d", "y"), "mark 1"), **dict.fromkeys(("left", "a", "n"), "mark 0"),
}  # fmt: skip
HELP = (
    ("← or A", "the left clip is better"),
    ("→ or D", "the right clip is better"),
    ("↑ or W", "both are equally good"),
    ("↓ or S", "cannot tell"),
    ("Backspace or Ctrl-Z", "take the last answer back, again and again"),
    ("Space", "pause and go on"),
    ("R", "from the start"),
    (", and .", "one frame back, one forward"),
    ("[ and ]", "slower, faster"),
    ("C", "another camera"),
    ("M", "a sound when a question comes"),
    ("Esc", "save and leave"),
)
RANKING_HELP = (
    ("1, 2, 3 ...", "the best clip first, then the next best"),
    ("Shift + number, or T", "as good as the one before"),
    ("drag", "a clip to its place; onto another one: a tie"),
    ("Enter", "confirm the order"),
    ("Backspace", "take the last number back, then the last answer"),
    *HELP[3:4],
    *HELP[5:],
)
GROUPS_HELP = (("← or A", "the left group is better"), ("→ or D", "the right group is better"), *HELP[2:])
RATING_HELP = (("1, 2, 3 ...", "from worst to best"), *HELP[3:])
SUCCESS_HELP = (
    ("→, D or Y", "success"),
    ("←, A or N", "failure"),
    *HELP[3:6],
    ("R", "the whole episode, from its start"),
    *HELP[7:],
)
CORRECT_HELP = ("K", "show how to do better, by the keyboard")


def mode(clips: int, kind: str = "") -> str:
    """Tells how a question of this kind about so many clips is put."""
    return kind if kind in (SUCCESS, GROUPS) else {1: RATING, 2: COMPARISON}.get(clips, RANKING)


def key_of(key: Key) -> str:
    """Returns the name of a key, or the sign that it types: "[" is AltGr + 8 on a German keyboard."""
    return key.text if key.text in SIGNS else key.name


def action_of(key: Key, how: str, levels: int = 5) -> str:
    """Returns what a key means while a question of this mode stands; empty if nothing."""
    if key.text in SIGNS:
        return ANYWHERE[key.text]
    if key.ctrl and key.name in ("z", "q"):
        return {"z": "undo", "q": "leave"}[key.name]
    if key.name.isdigit() and key.name != "0":
        number = int(key.name)
        if how == RANKING:
            return f"{'tie with' if key.shift else 'place'} {number - 1}"
        return f"rate {number}" if how == RATING and number <= levels else ""
    if key.ctrl and not key.text.isprintable():
        return ""
    name = "?" if key.name == "/" and key.shift else key.name
    if how == RANKING and name in ("return", "t"):
        return {"return": "confirm", "t": "tie switch"}[name]
    keys = {COMPARISON: COMPARING, GROUPS: COMPARING, SUCCESS: MARKING}.get(how, JUDGING)
    return ANYWHERE.get(name) or keys.get(name, "")


def help_lines(how: str, correctable: bool) -> tuple[tuple[str, str], ...]:
    """Returns the lines (keys, what they do) of a mode."""
    others = {RANKING: RANKING_HELP, RATING: RATING_HELP, SUCCESS: SUCCESS_HELP, GROUPS: GROUPS_HELP}
    lines = others.get(how, HELP)
    return (*lines[:-1], CORRECT_HELP, lines[-1]) if correctable else lines
