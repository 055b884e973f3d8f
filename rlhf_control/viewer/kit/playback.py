"""Where a clip stands in time: playing, paused, stepped, slower or faster."""

import math
from dataclasses import dataclass

HOLD_SECONDS = 0.6  # on the last frame, before the clips start again
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass
class Playback:
    """Clips that run in step, over and over, and stand on the last frame for a moment. Times are in seconds of the
    clip, which a speed of 2 passes twice as fast."""

    length: float = 1.0  # of the clips
    speed: float = 1.0
    at: float = 0.0
    paused: bool = False
    first: float = 0.0  # where they start again

    def advance(self, seconds: float) -> None:
        """Lets so much real time (s) pass."""
        if not self.paused:
            self.at += seconds * self.speed
            end = self.length + HOLD_SECONDS * self.speed
            if self.at >= end:
                self.at = self.first + (self.at - end) % (end - self.first)

    def frame(self, frames: int) -> int:
        """Tells which of so many frames, spread evenly over the clip, is shown."""
        return min(frames - 1, int(self.at / self.length * frames + 1e-6))

    def restart(self) -> None:
        """Goes to the clips' start, and starts there from now on."""
        self.at = self.first = 0.0

    def step(self, by: int, frames: int) -> None:
        """Stands still, so many frames further; round the ends."""
        self.paused = True
        self.at = (self.frame(frames) + by) % frames * self.length / frames

    def seek(self, share: float, frames: int) -> None:
        """Goes to the frame at this share of the clip."""
        self.at = min(frames - 1, max(0, math.floor(share * frames))) * self.length / frames

    def faster(self, by: int) -> None:
        """Goes to the next speed up (+1) or down (-1)."""
        nearest = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - self.speed))
        self.speed = SPEEDS[min(len(SPEEDS) - 1, max(0, nearest + by))]
