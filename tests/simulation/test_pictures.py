import numpy as np
import pytest

from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.simulation.pictures import (
    HEIGHT,
    alike,
    as_picture,
    decode,
    encode,
    encode_all,
    fit,
    observed_picture,
    rendered,
    stride,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)


def test_small_pictures_come_back_bit_for_bit() -> None:
    pictures = noise(4, HEIGHT, 30)
    frames = encode_all(list(pictures))
    assert frames.shape == (4,) and frames.dtype.kind == "S"
    np.testing.assert_array_equal(decode(frames), pictures)
    np.testing.assert_array_equal(decode(np.array([b"", *frames.tolist(), b""], "S")), pictures)
    assert encode(pictures[0]) == encode(pictures[0].copy())


def test_large_ones_are_reduced_in_their_proportions() -> None:
    frames = encode_all(list(noise(2, 400, 600)))
    assert decode(frames).shape == (2, HEIGHT, 240, 3)


@pytest.mark.parametrize("frames", [[b"no picture"], [b""], [encode(noise(9, 9))[:-30]]])
def test_damaged_pictures_are_an_error_of_ours(frames: list[bytes]) -> None:
    with pytest.raises(CorruptFileError, match="pictures cannot be read"):
        decode(np.array(frames, "S"))


def test_pictures_that_change_their_size_are_made_alike() -> None:
    first, wide = np.full((20, 30, 3), 200, np.uint8), np.full((10, 60, 3), 200, np.uint8)
    both = decode(encode_all([first, wide]))
    assert both.shape == (2, 20, 30, 3)
    np.testing.assert_array_equal(both, alike([first, wide]))
    assert (both[1, 8:12] == 200).all() and (both[1, :7] == 0).all() and (both[1, -7:] == 0).all()


COLOURS = noise(5, 7)
GREY = COLOURS[..., 0]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (COLOURS, COLOURS),
        ([COLOURS[::-1], COLOURS], COLOURS),
        (COLOURS.tolist(), COLOURS),
        (np.stack([COLOURS[::-1], COLOURS]), COLOURS),
        (np.concatenate([COLOURS, COLOURS[..., :1]], 2), COLOURS),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (COLOURS / 255, COLOURS),
        (COLOURS.astype(np.float32), COLOURS),
        (COLOURS.astype(np.int64), COLOURS),
        (COLOURS.astype(np.int64) + 300, np.full_like(COLOURS, 255)),
        (GREY, GREY[..., None].repeat(3, 2)),
        ([GREY], GREY[..., None].repeat(3, 2)),
        (GREY[..., None], GREY[..., None].repeat(3, 2)),
        (GREY > 100, 255 * (GREY > 100)[..., None].repeat(3, 2)),
        (np.where(GREY > 100, 1.0, np.nan), 255 * (GREY > 100)[..., None].repeat(3, 2)),
    ],
)
def test_pictures_of_other_kinds_become_ours(given: object, seen: np.ndarray) -> None:
    picture = as_picture(given)
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, seen)


@pytest.mark.parametrize("given", [None, "+-+", [], np.zeros(9), np.zeros((0, 4, 3)), np.zeros((9, 9, 2)), {}, [None]])
def test_what_is_no_picture_is_said_in_one_line(given: object) -> None:
    class Odd:
        def render(self) -> object:
            return given

    with pytest.raises(UserError, match="Odd-v0 cannot be drawn: its render gives"):
        rendered(Odd(), "Odd-v0")
    with pytest.raises(UserError, match="Odd-v0 cannot be drawn: its render fails with AttributeError: "):
        rendered(None, "Odd-v0")


@pytest.mark.parametrize(("seconds", "steps"), [(1 / 30, 1), (0.02, 2), (1 / 60, 2), (0.05, 1), (0.008, 5)])
def test_no_more_than_thirty_a_second(seconds: float, steps: int) -> None:
    assert stride(seconds) == steps


def test_fit_keeps_proportions() -> None:
    assert fit(noise(100, 200), 50, 50).shape == (25, 50, 3)
    assert fit(noise(20, 10), 100, 60).shape == (60, 30, 3)
    picture = noise(20, 10)
    np.testing.assert_array_equal(fit(picture, 10, 100), picture)


@pytest.mark.parametrize("shape", [(20, 24, 3), (20, 24, 1), (20, 24), (4, 20, 24), (20, 24, 4), (20, 24, 12)])
def test_what_a_policy_observes_is_shown_and_of_stacked_frames_the_last(shape: tuple[int, ...]) -> None:
    seen = np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)
    shown = observed_picture(seen)
    assert shown.shape == (20, 24, 3) and shown.dtype == np.uint8
    last = seen[-1] if shape[0] == 4 else seen if len(shape) == 2 else seen[..., -1]
    np.testing.assert_array_equal(shown[..., -1], last)
