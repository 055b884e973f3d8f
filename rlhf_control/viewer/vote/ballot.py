"""The question before the annotator: its clips' clock, an order in the making, and what an action makes of them."""

from rlhf_control.labelling.session import LEAST_SECONDS, LEFT, RIGHT, TIE, Answer, Question
from rlhf_control.viewer.kit.playback import Playback
from rlhf_control.viewer.vote.keys import RANKING, SUCCESS, mode
from rlhf_control.viewer.vote.order import LETTERS, Order, completed, placed, put, ranks_of, without
from rlhf_control.viewer.vote.parts import Drag

CONTROLS = ("pause", "restart", "back", "forward", "slower", "faster")
END_SECONDS = 4.0  # of an episode whose success is asked about are shown until somebody wants it whole
SAYING = ("prefer", "tie", "cannot", "rate", "mark", "place", "card")  # actions that say something about the clips
SIMPLE = {"prefer 0": LEFT, "prefer 1": RIGHT, "tie": TIE}


class Ballot:
    """Holds one question until it is answered. `came`: when it was there to be shown (s). `shown_at`: when its first
    frames were on the screen, None before that. `since`: since when its clips are there without a break, None while
    they are not. Nobody can answer what they have not seen."""

    def __init__(self, question: Question, speed: float = 1.0, now: float = 0.0) -> None:
        self.question, self.came = question, now
        self.mode = mode(len(question.shown), question.kind)
        self.playback = Playback(speed=speed)
        self.shown_at: float | None = None
        self.since: float | None = None
        self.returned = False  # by an undo
        self.missed = False  # a place in the order was pressed too soon to count
        self.order: Order = ()
        self.tie = False  # the next clip ties with the last
        self.drag: Drag | None = None

    def lasts(self, seconds: float) -> None:
        """Takes note of how long its clips are. What became of an episode is seen at its end: that is shown first."""
        if seconds != self.playback.length:
            self.playback.length = seconds
            self.playback.first = max(0.0, seconds - END_SECONDS) if self.mode == SUCCESS else 0.0
            self.playback.at = max(self.playback.at, self.playback.first)

    def show(self, on_screen: bool, now: float) -> None:
        """Notes whether the clips are on the screen now, all of them, with nothing over them."""
        if not on_screen:
            self.since = None
        elif self.since is None:
            self.since = now
            self.shown_at = now if self.shown_at is None else self.shown_at

    def seen(self, now: float) -> bool:
        """Tells whether what is pressed from now on can be an answer to what is on the screen, and not a key tapped
        twice."""
        return self.since is not None and now - self.since >= LEAST_SECONDS

    def whole(self) -> Order | None:
        """Returns the order of all clips, None while it is not complete. The last clip's place needs no key, unless one
        was missed."""
        order = completed(self.order, len(self.question.shown)) if self.order else None
        return None if self.missed and order != self.order else order

    def miss(self, action: str) -> bool:
        """Takes note of what was pressed too soon; returns whether it would have said anything about the clips."""
        name = action.partition(" ")[0]
        self.missed = self.missed or (self.mode == RANKING and name in ("place", "tie"))
        return name in SAYING or (name == "confirm" and bool(self.order))

    def answer(self, action: str) -> Answer | None:
        """Returns the answer that an action gives; None if it gives none, or not yet."""
        name, _, number = action.partition(" ")
        if action in SIMPLE:
            seen = self.question.of_both(SIMPLE[action])
            return Answer(seen, None, {"tie": "equal"}.get(name, f"{LETTERS[int(number or 0)]} is better"))
        if name == "cannot":
            return Answer(None)
        if name == "rate":
            return Answer(None, float(number), f"rated {number}")
        if name == "mark":
            return Answer(None, float(number), "success" if number == "1" else "failure")
        whole = self.whole() if name == "confirm" else None
        return None if whole is None else Answer(ranks_of(whole), None, order_words(whole))

    def arrange(self, action: str) -> bool:
        """Carries out what makes an order; returns whether the action was one of that."""
        name, _, number = action.partition(" ")
        if action == "tie switch":
            self.tie = not self.tie and bool(self.order)
        elif action.startswith("tie with ") or name == "place":
            tie = self.tie or name == "tie"
            clip = int(action.split(" ")[-1])
            if clip < len(self.question.shown):
                self.order, self.tie = put(self.order, clip, tie=tie), False
        elif name == "card":
            self.order = without(self.order, int(number))
        elif name == "undo" and self.order:
            self.order = without(self.order, placed(self.order)[-1])
        else:
            return False
        return True

    def control(self, action: str, frames: int) -> bool:
        """Carries out what drives the clips, which have so many frames; returns whether the action was one of that."""
        if action not in CONTROLS:
            return False
        if action == "pause":
            self.playback.paused = not self.playback.paused
        elif action == "restart":
            self.playback.restart()
        elif action in ("back", "forward"):
            self.playback.step(1 if action == "forward" else -1, frames)
        else:
            self.playback.faster(1 if action == "faster" else -1)
        return True


def order_words(order: Order) -> str:
    return " > ".join(" = ".join(str(clip + 1) for clip in group) for group in order)
