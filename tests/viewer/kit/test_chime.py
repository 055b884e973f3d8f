from array import array

import pytest

from rlhf_control.viewer.kit.canvas import pygame
from rlhf_control.viewer.kit.chime import NOTES, RATE, VOLUME, chime, samples


def test_the_sound_is_short_and_soft() -> None:
    wave = array("h", samples())
    assert len(wave) == sum(round(RATE * seconds) for _, seconds in NOTES) < RATE
    assert 1000 < max(wave) <= VOLUME * 32768
    assert abs(wave[-1]) < 10  # no click at its end


@pytest.mark.parametrize("driver", ["dummy", "no such driver"])
def test_a_machine_without_sound_stays_silent(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_AUDIODRIVER", driver)
    chime()
    assert bool(pygame.mixer.get_init()) == (driver == "dummy")
    chime()
    pygame.mixer.quit()
