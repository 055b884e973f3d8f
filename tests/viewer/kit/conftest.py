from collections.abc import Iterator

import pytest

from rlhf_control.viewer.kit.canvas import Canvas, pygame


@pytest.fixture
def canvas() -> Iterator[Canvas]:
    """An empty page."""
    pygame.display.init()
    pygame.font.init()
    page = Canvas(pygame.Surface((1280, 720)))
    page.clear()
    yield page
    pygame.font.quit()
    pygame.display.quit()
