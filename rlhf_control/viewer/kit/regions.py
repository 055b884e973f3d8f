"""The places of a page that one can click on, and what each of them does."""

from contextlib import suppress

import pygame

Rect = tuple[float, float, float, float]  # x, y, width, height in pixels


class Regions:
    """Remembers which place of the page does what. `mouse` is where the mouse is, in pixels."""

    def __init__(self) -> None:
        self.mouse: tuple[float, float] = (-1.0, -1.0)  # outside
        self._regions: list[tuple[Rect, str]] = []
        self._hand = False

    def actions(self) -> list[str]:
        """Returns the actions that one can click on, the topmost last."""
        return [action for _, action in self._regions]

    def region(self, rect: Rect, action: str) -> None:
        """Makes a place that one can click on, without drawing anything."""
        self._regions.append((rect, action))

    def hit(self, x: float, y: float) -> str:
        """Returns the action of the topmost button there; empty if there is none."""
        return next((action for rect, action in reversed(self._regions) if inside((x, y), rect)), "")

    def place_of(self, action: str) -> Rect:
        """Returns where the topmost button of this action is. Raises KeyError if there is none."""
        for rect, known in reversed(self._regions):
            if known == action:
                return rect
        raise KeyError(action)

    def show_hand(self) -> None:
        """Shows a hand for the pointer over what one can click on, an arrow elsewhere."""
        hand = any(inside(self.mouse, rect) for rect, _ in self._regions)
        if hand != self._hand:
            self._hand = hand
            with suppress(pygame.error):
                pygame.mouse.set_cursor(pygame.SYSTEM_CURSOR_HAND if hand else pygame.SYSTEM_CURSOR_ARROW)

    def forget(self) -> None:
        """Forgets all places: another page begins."""
        self._regions = []


def inside(point: tuple[float, float], rect: Rect) -> bool:
    """Tells whether a point lies in a rectangle."""
    x, y, width, height = rect
    return x <= point[0] < x + width and y <= point[1] < y + height
