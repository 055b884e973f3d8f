"""A short, soft sound. The sound device is opened only for it, and a machine without one stays silent."""

import math
from array import array
from contextlib import suppress

from rlhf_control.viewer.kit.canvas import pygame

RATE = 22_050  # samples a second
NOTES = ((660.0, 0.12), (880.0, 0.22))  # Hz, seconds
VOLUME = 0.2


def chime() -> None:
    with suppress(pygame.error, NotImplementedError):  # the latter: pygame was built without sound
        if not pygame.mixer.get_init():
            pygame.mixer.init(RATE, -16, 1)
        pygame.mixer.Sound(buffer=samples()).play()


def samples() -> bytes:
    """Returns 16-bit mono samples: each note fades out."""
    wave = array("h")
    for pitch, seconds in NOTES:
        n = round(RATE * seconds)
        wave.extend(
            round(32767 * VOLUME * (1 - t / n) ** 2 * math.sin(2 * math.pi * pitch * t / RATE)) for t in range(n)
        )
    return wave.tobytes()
