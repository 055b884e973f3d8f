import numpy as np
import pytest

from rlhf_control.errors import CorruptFileError
from rlhf_control.pictures import HEIGHT, decode, encode, encode_all, fit, stride


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


@pytest.mark.parametrize("frames", [[b"no picture"], [b""], [encode(noise(9, 9))[:-30]], [encode(noise(9, 8))] * 2])
def test_damaged_pictures_are_an_error_of_ours(frames: list[bytes]) -> None:
    bad = np.array([*frames, *([encode(noise(9, 9))] if len(frames) > 1 else [])], "S")
    with pytest.raises(CorruptFileError, match="pictures cannot be read"):
        decode(bad)


@pytest.mark.parametrize(("seconds", "steps"), [(1 / 30, 1), (0.02, 2), (1 / 60, 2), (0.05, 1), (0.008, 5)])
def test_no_more_than_thirty_a_second(seconds: float, steps: int) -> None:
    assert stride(seconds) == steps


def test_fit_keeps_proportions() -> None:
    assert fit(noise(100, 200), 50, 50).shape == (25, 50, 3)
    assert fit(noise(20, 10), 100, 60).shape == (60, 30, 3)
    picture = noise(20, 10)
    np.testing.assert_array_equal(fit(picture, 10, 100), picture)
