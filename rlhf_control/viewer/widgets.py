"""What the voting window is made of, without any drawing: the clock of the clips, the order of a ranking, and which
key means what."""

import math
from dataclasses import dataclass

from rlhf_control.viewer.window import Key

HOLD_SECONDS = 0.6  # on the last frame, before the clips start again
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
COMPARISON, RANKING, RATING = "comparison", "ranking", "rating"  # how a question is put
LETTERS = "ABCDEFGHI"
Order = tuple[tuple[int, ...], ...]  # clips of a ranking, best first; those in one group tie

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
RATING_HELP = (("1, 2, 3 ...", "from worst to best"), *HELP[3:])
CORRECT_HELP = ("K", "show how to do better, by the keyboard")


def mode(clips: int) -> str:
    """How a question about so many clips is put."""
    return {1: RATING, 2: COMPARISON}.get(clips, RANKING)


def key_of(key: Key) -> str:
    """The name of a key, or the sign that it types: "[" is AltGr + 8 on a German keyboard."""
    return key.text if key.text in SIGNS else key.name


def action_of(key: Key, how: str, levels: int = 5) -> str:
    """What a key means while a question of this mode stands; empty if nothing."""
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
    return ANYWHERE.get(name) or (COMPARING if how == COMPARISON else JUDGING).get(name, "")


def help_lines(how: str, correctable: bool) -> tuple[tuple[str, str], ...]:
    """(keys, what they do) of a mode."""
    lines = {RANKING: RANKING_HELP, RATING: RATING_HELP}.get(how, HELP)
    return (*lines[:-1], CORRECT_HELP, lines[-1]) if correctable else lines


# -- the clock


@dataclass
class Playback:
    """Clips that run in step, over and over, and stand on the last frame for a moment. Times are in seconds of the
    clip, which a speed of 2 passes twice as fast."""

    length: float = 1.0  # of the clips
    speed: float = 1.0
    at: float = 0.0
    paused: bool = False

    def advance(self, seconds: float) -> None:
        """So much real time has passed."""
        if not self.paused:
            self.at = (self.at + seconds * self.speed) % (self.length + HOLD_SECONDS * self.speed)

    def frame(self, frames: int) -> int:
        """Which of so many frames, spread evenly over the clip, is shown."""
        return min(frames - 1, int(self.at / self.length * frames + 1e-6))

    def restart(self) -> None:
        self.at = 0.0

    def step(self, by: int, frames: int) -> None:
        """Stands still, so many frames further; round the ends."""
        self.paused = True
        self.at = (self.frame(frames) + by) % frames * self.length / frames

    def seek(self, share: float, frames: int) -> None:
        """To the frame at this share of the clip."""
        self.at = min(frames - 1, max(0, math.floor(share * frames))) * self.length / frames

    def faster(self, by: int) -> None:
        """To the next speed up (+1) or down (-1)."""
        nearest = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - self.speed))
        self.speed = SPEEDS[min(len(SPEEDS) - 1, max(0, nearest + by))]


# -- the order of a ranking


def placed(order: Order) -> tuple[int, ...]:
    return tuple(clip for group in order for clip in group)


def put(order: Order, clip: int, *, tie: bool) -> Order:
    """The clip comes last, or ties with the last; one that has its place already loses it."""
    if clip in placed(order):
        return without(order, clip)
    if tie and order:
        return (*order[:-1], (*order[-1], clip))
    return (*order, (clip,))


def without(order: Order, clip: int) -> Order:
    groups = (tuple(other for other in group if other != clip) for group in order)
    return tuple(group for group in groups if group)


def moved(order: Order, clip: int, group: int, *, tie: bool) -> Order:
    """The clip ties with this group, or makes a new one before it (a number past the end: the last)."""
    if tie and group < len(order) and clip in order[group]:
        return order
    shift = sum(other == (clip,) for other in order[:group])  # its own group goes
    rest, at = without(order, clip), group - shift
    if tie and at < len(rest):
        return (*rest[:at], (*rest[at], clip), *rest[at + 1 :])
    return (*rest[:at], (clip,), *rest[at:])


def completed(order: Order, clips: int) -> Order | None:
    """The order of all clips, where one that is left comes last; None if more are missing."""
    missing = [clip for clip in range(clips) if clip not in placed(order)]
    if len(missing) > 1:
        return None
    return (*order, tuple(missing)) if missing else order


def ranks_of(order: Order) -> tuple[int, ...]:
    """Rank by clip: 0 best, equal numbers tie."""
    rank = {clip: place for place, group in enumerate(order) for clip in group}
    return tuple(rank[clip] for clip in sorted(rank))
