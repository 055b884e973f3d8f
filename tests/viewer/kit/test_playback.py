import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.viewer.kit.playback import HOLD_SECONDS, SPEEDS, Playback


def test_clips_loop_with_a_hold_on_the_last_frame() -> None:
    clock = Playback(length=1.0)
    seen = []
    for _ in range(32):
        seen.append(clock.frame(10))
        clock.advance(0.1)
    once = [*range(10), *[9] * round(HOLD_SECONDS * 10)]
    assert seen == once + once


@given(st.sampled_from(SPEEDS), st.floats(0.2, 20), st.integers(1, 100))
def test_the_hold_lasts_the_same_at_every_speed(speed: float, length: float, frames: int) -> None:
    clock = Playback(length=length, speed=speed)
    clock.advance(length / speed + HOLD_SECONDS * 0.9)
    assert clock.frame(frames) == frames - 1
    clock.advance(HOLD_SECONDS * 0.2)
    assert clock.at < length * 0.5 + HOLD_SECONDS * speed


@given(st.floats(0.2, 20), st.integers(1, 200), st.integers(0, 400))
def test_steps_and_seeks_hit_every_frame(length: float, frames: int, steps: int) -> None:
    clock = Playback(length=length)
    for _ in range(steps):
        clock.step(1, frames)
    assert clock.frame(frames) == steps % frames and clock.paused == (steps > 0)
    clock.step(-1, frames)
    assert clock.frame(frames) == (steps - 1) % frames
    for t in range(frames):
        clock.seek((t + 0.5) / frames, frames)
        assert clock.frame(frames) == t
    clock.seek(7.0, frames)
    assert clock.frame(frames) == frames - 1


def test_pause_and_speed() -> None:
    clock = Playback(length=1.0, paused=True)
    clock.advance(0.5)
    assert clock.at == 0
    for _ in range(9):
        clock.faster(1)
    assert clock.speed == 4.0
    for expected in (2.0, 1.0, 0.5, 0.25, 0.25):
        clock.faster(-1)
        assert clock.speed == expected


def test_clips_may_start_again_later_until_they_are_wanted_whole() -> None:
    clock = Playback(length=10.0, first=7.0, at=7.0)
    clock.advance(3.0 + HOLD_SECONDS + 0.5)
    assert clock.at == pytest.approx(7.5)
    clock.seek(0.2, 100)
    clock.advance(1.0)
    assert clock.at == pytest.approx(3.0)
    clock.restart()
    clock.advance(10.0 + HOLD_SECONDS + 0.5)
    assert clock.at == pytest.approx(0.5)
