import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.viewer.kit.playback import HOLD_SECONDS, SPEEDS, Playback
from rlhf_control.viewer.kit.window import Key
from rlhf_control.viewer.vote.keys import ANYWHERE, COMPARISON, RANKING, RATING, action_of, help_lines, mode
from rlhf_control.viewer.vote.order import completed, moved, placed, put, ranks_of, without

# -- keys


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (Key("left"), "prefer 0"), (Key("a", "a"), "prefer 0"), (Key("a", "A", shift=True), "prefer 0"),
        (Key("right"), "prefer 1"), (Key("d", "d"), "prefer 1"), (Key("up"), "tie"), (Key("w", "w"), "tie"),
        (Key("down"), "cannot tell"), (Key("s", "s"), "cannot tell"), (Key("backspace"), "undo"),
        (Key("z", "\x1a", ctrl=True), "undo"), (Key("z", "z"), ""), (Key("space", " "), "pause"), (Key("r"), "restart"),
        (Key(",", ","), "back"), (Key(".", "."), "forward"), (Key("[", "["), "slower"), (Key("]", "]"), "faster"),
        (Key("8", "[", ctrl=True), "slower"), (Key("ü", "["), "slower"), (Key("c"), "camera"), (Key("h"), "help"),
        (Key("/", "?", shift=True), "help"), (Key("/", shift=True), "help"), (Key("ß", "?", shift=True), "help"),
        (Key("escape"), "leave"), (Key("q", "\x11", ctrl=True), "leave"), (Key("a", "\x01", ctrl=True), ""),
        (Key("return", "\r"), ""), (Key("3", "3"), ""), (Key("f5"), ""), (Key("k"), "correct"), (Key("m"), "sound"),
    ],
)  # fmt: skip
def test_keys_of_a_comparison(key: Key, action: str) -> None:
    assert action_of(key, COMPARISON) == action


def test_keys_of_rankings_and_ratings() -> None:
    assert action_of(Key("3", "3"), RANKING) == "place 2"
    assert action_of(Key("3", "#", shift=True), RANKING) == "tie with 2"
    assert action_of(Key("return", "\r"), RANKING) == "confirm" and action_of(Key("t", "t"), RANKING) == "tie switch"
    assert action_of(Key("left"), RANKING) == "" and action_of(Key("s"), RANKING) == "cannot tell"
    assert action_of(Key("5"), RATING) == "rate 5" and action_of(Key("6"), RATING) == ""
    assert action_of(Key("6"), RATING, levels=7) == "rate 6" and action_of(Key("0"), RATING) == ""
    assert action_of(Key("backspace"), "") == "undo" and action_of(Key("left"), "") == ""  # no question
    assert [mode(n) for n in (1, 2, 3, 6)] == [RATING, COMPARISON, RANKING, RANKING]


def test_the_help_names_every_key() -> None:
    for how in (COMPARISON, RANKING, RATING, ""):
        lines = help_lines(how, correctable=True)
        keys = " ".join(keys for keys, _ in lines).lower()
        for key in ANYWHERE:
            assert {"escape": "esc", "h": "", "?": "", "f1": ""}.get(key, key) in keys, (how, key)
        assert len(help_lines(how, correctable=False)) == len(lines) - 1 and len(lines) <= 15


# -- the clock


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


# -- rankings


def test_orders_by_hand() -> None:
    order = put(put(put((), 2, tie=False), 0, tie=False), 1, tie=True)
    assert order == ((2,), (0, 1)) and placed(order) == (2, 0, 1) and ranks_of(order) == (1, 1, 0)
    assert put(order, 0, tie=False) == ((2,), (1,)) and without(order, 2) == ((0, 1),)
    assert put((), 1, tie=True) == ((1,),)  # nothing to tie with
    assert completed(order, 4) == ((2,), (0, 1), (3,)) and completed(order, 5) is None
    assert completed(((0,), (1,)), 2) == ((0,), (1,))


def test_moves_by_hand() -> None:
    order = ((0,), (1,), (2,))
    assert moved(order, 2, 0, tie=False) == ((2,), (0,), (1,))
    assert moved(order, 0, 3, tie=False) == ((1,), (2,), (0,))
    assert moved(order, 0, 1, tie=False) == order  # where it stands
    assert moved(order, 0, 2, tie=True) == ((1,), (2, 0))
    assert moved(order, 0, 0, tie=True) == order  # onto itself
    assert moved(((0, 1), (2,)), 0, 0, tie=False) == ((0,), (1,), (2,))
    assert moved((), 3, 0, tie=False) == ((3,),)


@given(st.data())
def test_whatever_is_moved_no_clip_is_lost_or_doubled(data: st.DataObject) -> None:
    order: tuple[tuple[int, ...], ...] = ()
    for _ in range(data.draw(st.integers(0, 20))):
        clip, tie = data.draw(st.integers(0, 5)), data.draw(st.booleans())
        if data.draw(st.booleans()):
            order = put(order, clip, tie=tie)
        else:
            order = moved(order, clip, data.draw(st.integers(0, len(order))), tie=tie)
        clips = placed(order)
        assert len(set(clips)) == len(clips) and all(order)
    full = completed(order, 6)
    if full is not None:
        ranks = ranks_of(full)
        assert len(ranks) == 6 and sorted(set(ranks)) == list(range(len(full)))
