"""From what the window knows to what is on the screen, which is drawn only if it differs from what is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from rlhf_control.rendering.cache import clip_size
from rlhf_control.viewer.kit.window import Window
from rlhf_control.viewer.vote import waiting_pages as pages
from rlhf_control.viewer.vote.keys import help_lines, mode
from rlhf_control.viewer.vote.parts import Bar, Scene, clip_places
from rlhf_control.viewer.vote.question_page import draw_question
from rlhf_control.viewer.vote.scene import SPINS, bar_of, page_of, pictures_of, scene_of
from rlhf_control.viewer.vote.waiting_pages import WaitingPage

if TYPE_CHECKING:
    from rlhf_control.viewer.vote.ballot import Ballot
    from rlhf_control.viewer.vote.controller import VotingController


@dataclass(frozen=True)
class Look:
    """How the window is to look: equal ones look the same."""

    what: Scene | tuple[WaitingPage, Bar, int]
    help: bool
    hover: str
    whole: bool = False  # all clips of a question are to be seen
    draw: Callable[[], None] = field(default=lambda: None, compare=False)


class Painter:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.drawn: Look | None = None

    def paint(self, controller: "VotingController") -> bool:
        """Whether all the clips of a question are on the screen now."""
        voting = controller.ballot is not None and not controller.away and controller.summary_since is None
        look = (
            self.question(controller, controller.ballot)
            if controller.ballot is not None and voting
            else self.page(controller)
        )
        if look != self.drawn or self.window.stale:
            self.window.clear()
            look.draw()
            if controller.help:
                how = controller.ballot.mode if controller.ballot is not None else ""
                pages.draw_help(self.window, help_lines(how, controller.correctable()))
            self.window.show_hand()
            self.window.present()
            self.drawn = look
        return look.whole

    def question(self, controller: "VotingController", ballot: "Ballot") -> Look:
        pictures, frames = pictures_of(controller, ballot)
        hover = self.window.hit(*self.window.mouse)
        scene = scene_of(controller, ballot, frames, hover)
        whole = all(frame is not None for frame in frames)
        return Look(scene, controller.help, hover, whole, partial(draw_question, self.window, scene, pictures))

    def page(self, controller: "VotingController") -> Look:
        page, bar = page_of(controller), bar_of(controller)
        spin = int(controller.now * SPINS) if page.name in pages.LIVE else 0
        hover = self.window.hit(*self.window.mouse)
        return Look(
            (page, bar, spin), controller.help, hover, False, partial(pages.draw_page, self.window, page, bar, spin)
        )

    def clip_size(self, clips: int) -> tuple[int, int]:
        """At which clips of a question of so many are to be drawn, in pixels."""
        _, _, width, height = clip_places(self.window, mode(clips), clips)[0]
        return clip_size(int(width), int(height))
