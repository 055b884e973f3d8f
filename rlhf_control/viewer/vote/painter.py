"""From what the window knows to what is on the screen, which is drawn only if it differs from what is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rlhf_control.labelling.session import Question
from rlhf_control.rendering.cache import clip_size
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.vote import waiting_pages as pages
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.keys import help_lines, mode
from rlhf_control.viewer.vote.parts import Bar, Scene, clip_places
from rlhf_control.viewer.vote.question_page import draw_question
from rlhf_control.viewer.vote.scene import SPINS, bar_of, page_of, pictures_of, scene_of
from rlhf_control.viewer.vote.state import VotingState
from rlhf_control.viewer.vote.waiting_pages import WaitingPage


@dataclass(frozen=True)
class Appearance:
    """Holds what the window shows: equal ones look the same."""

    what: Scene | tuple[WaitingPage, Bar, int]
    help: bool
    hover: str
    whole: bool = False  # all clips of a question are to be seen
    draw: Callable[[], None] = field(default=lambda: None, compare=False)


class Painter:
    """Draws on a window, and remembers what it drew."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.drawn: Appearance | None = None

    def paint(self, state: VotingState) -> bool:
        """Draws what is not on the screen yet; tells whether all the clips of a question are there now."""
        voting = not state.away and state.summary_since is None
        ballot = state.ballot if voting else None
        shown = self.question(state, ballot) if ballot is not None else self.page(state)
        if shown != self.drawn or self.window.stale:
            self.window.clear()
            shown.draw()
            if state.help:
                how = state.ballot.mode if state.ballot is not None else ""
                pages.draw_help(self.window, help_lines(how, state.correctable()))
            self.window.show_hand()
            self.window.present()
            self.drawn = shown
        return shown.whole

    def question(self, state: VotingState, ballot: Ballot) -> Appearance:
        """Returns how the page of a question is to look."""
        pictures, frames = pictures_of(state, ballot)
        hover = self.window.hit(*self.window.mouse)
        scene = scene_of(state, ballot, frames, hover)
        whole = all(frame is not None for frame in frames)
        return Appearance(scene, state.help, hover, whole, partial(draw_question, self.window, scene, pictures))

    def page(self, state: VotingState) -> Appearance:
        """Returns how a page without a question is to look."""
        page, bar = page_of(state), bar_of(state)
        spin = int(state.now * SPINS) if page.name in pages.LIVE else 0
        hover = self.window.hit(*self.window.mouse)
        draw = partial(pages.draw_page, self.window, page, bar, spin)
        return Appearance((page, bar, spin), state.help, hover, False, draw)

    def clip_size(self, question: Question) -> tuple[int, int]:
        """Returns the (width, height) in pixels at which the clips of this question are to be drawn."""
        clips = len(question.shown)
        _, _, width, height = clip_places(self.window, mode(clips, question.kind), clips)[0]
        return clip_size(int(width), int(height))
