import numpy as np
import pytest

from rlhf_control.simulation.atari.pictures import Shrinker, Stacker, taps


def test_weights_are_the_shares_of_the_area() -> None:
    """Worked by hand: five pixels in two are 2.5 each."""
    first, weight = taps(5, 2)
    assert first.tolist() == [0, 2]
    np.testing.assert_allclose(weight, [[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]], rtol=1e-6)


@pytest.mark.parametrize(("height", "width", "out"), [(210, 160, (84, 84)), (250, 160, (84, 84)), (210, 160, (42, 31))])
def test_c_and_numpy_shrink_to_the_same_bits(height: int, width: int, out: tuple[int, int]) -> None:
    one, two = np.random.default_rng(0).integers(0, 256, (2, height, width)).astype(np.uint8)
    small = Shrinker(height, width, *out)(one, two)
    assert small.shape == out
    np.testing.assert_array_equal(small, Shrinker(height, width, *out, compiled=False)(one, two))
    constant = np.full_like(one, 200)
    assert (Shrinker(height, width, *out)(constant, one // 2) == 200).all()  # the brighter of two


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_stacks_shift_by_one(depth: int) -> None:
    rng = np.random.default_rng(0)
    stacks, pictures = rng.integers(0, 256, (2, 5, 6, depth)), rng.integers(0, 256, (2, 5, 6))
    stacks, pictures = stacks.astype(np.uint8), pictures.astype(np.uint8)
    before = stacks.copy()
    pushed = Stacker()(stacks, pictures)
    np.testing.assert_array_equal(pushed, np.concatenate([stacks[..., 1:], pictures[..., None]], -1))
    np.testing.assert_array_equal(pushed, Stacker(compiled=False)(stacks, pictures))
    np.testing.assert_array_equal(stacks, before)
