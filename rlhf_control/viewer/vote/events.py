"""From what the person does at the window, a key or the mouse, to what is meant by it. Nothing is changed here but what
belongs to the hand itself: what the mouse button went down on, and since when a key is held."""

from collections.abc import Iterator
from dataclasses import dataclass

from rlhf_control.viewer.kit.window import Closed, Key, Mouse, Window
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.keys import action_of
from rlhf_control.viewer.vote.parts import Drag, track_place
from rlhf_control.viewer.vote.question_page import drop_target
from rlhf_control.viewer.vote.state import VotingState

HELD_SECONDS = (0.4, 0.06)  # a key that steps is held: before it repeats, and between steps
REPEATED = {",": "back", ".": "forward"}
DRAG_UNITS = 6  # of movement make a click a drag
DRAGGED = ("place", "card")  # actions of what can be dragged
LEAVING = {"backspace": "stay", "escape": "leave", "return": "leave", "space": "leave"}  # keys while the summary stands
CLOSE, RETURN, CLOSE_HELP = "close", "return", "close help"  # the window is closed; somebody is back; the help goes


@dataclass(frozen=True)
class Seek:
    """Says that the clips are to stand at this share of their length."""

    share: float


@dataclass(frozen=True)
class Drop:
    """Says that a dragged clip was let go. `target`: the group, and whether it ties with it; None beside the places."""

    clip: int
    target: tuple[int, bool] | None
    placed: bool  # it had a place before


Action = str | Seek | Drag | Drop  # in words: see `keys`; "" is a key or a click that means nothing


class Events:
    """Reads the window's events in the light of what the window knows."""

    def __init__(self, window: Window, state: VotingState) -> None:
        self.window, self.state = window, state
        self._down: tuple[str, float, float] = ("", 0.0, 0.0)  # the action and the place where the button went down
        self._down_on: Ballot | None = None  # the question that stood there then
        self._stepped = float("-inf")  # when a held key repeats next, less the seconds between steps

    def actions(self) -> Iterator[Action | None]:
        """Yields what the person has done since the last call, None for a mere touch, such as the mouse moving. Between
        two of them the state may change."""
        for event in self.window.events():
            if isinstance(event, Closed):
                yield CLOSE
            elif isinstance(event, Key | Mouse):
                yield self.meaning(event)

    def repeated(self) -> Iterator[Action]:
        """Yields what a key that is held does again."""
        for key, action in REPEATED.items():
            if key in self.window.held and self.state.now - self._stepped > HELD_SECONDS[1]:
                self._stepped = self.state.now
                yield action

    def meaning(self, event: Key | Mouse) -> Action | None:
        """Returns the action of a key or of the mouse, here and now."""
        pressed = isinstance(event, Key) or event.what == "down"
        if self.state.away:
            return RETURN if pressed else None
        if self.state.help and pressed:
            return CLOSE_HELP
        return self.of_key(event) if isinstance(event, Key) else self.of_mouse(event)

    def of_key(self, key: Key) -> str:
        """Returns the action of a key."""
        state = self.state
        if key.name in REPEATED:
            self._stepped = state.now + HELD_SECONDS[0]
        if state.summary_since is not None:
            return LEAVING.get(key.name, "")
        if state.trouble and state.ballot is None and key.name == "r":
            return "retry"
        return action_of(key, state.ballot.mode if state.ballot is not None else "", state.config.levels)

    def of_mouse(self, event: Mouse) -> Action | None:
        """Returns the action of the mouse: a click, a drag, a drop, or a place on the time line."""
        ballot, x, y = self.state.ballot, event.x, event.y
        if event.what == "down" and event.button == 1:
            action = self.window.hit(x, y)
            self._down, self._down_on = (action, x, y), ballot
            return None if is_dragged(action) else self.seek(x) if action == "seek" else action
        action, x0, y0 = self._down if self._down_on is ballot else ("", x, y)  # what it was on is gone
        if event.what == "move" and action == "seek":
            return self.seek(x)
        if event.what == "move" and is_dragged(action) and ballot is not None:
            if ballot.drag is not None or max(abs(x - x0), abs(y - y0)) > self.window.px(DRAG_UNITS):
                return Drag(int(action.split(" ")[1]), x, y)
        elif event.what == "up" and event.button == 1:
            self._down = ("", 0.0, 0.0)
            if ballot is not None and ballot.drag is not None:
                target = drop_target(self.window, ballot.order, ballot.drag, len(ballot.question.shown))
                return Drop(ballot.drag.clip, target, placed=action.startswith("card"))
            return action if is_dragged(action) else None  # the button going up tells a click from a drag
        return None

    def seek(self, x: float) -> Action | None:
        """Returns the place on the time line at x."""
        if self.state.ballot is None:
            return None
        left, _, width, _ = track_place(self.window, self.state.ballot.mode, len(self.state.ballot.question.shown))
        return Seek((x - left) / width)


def is_dragged(action: str) -> bool:
    """Tells whether this is the action of what can be dragged."""
    return action.split(" ")[0] in DRAGGED
