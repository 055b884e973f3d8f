import numpy as np

from envs.mujoco.generators import GENERATOR_WORDS, generator_of, generator_words


def test_a_generator_goes_on_where_its_words_were_taken() -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    generator.integers(5, size=7, dtype=np.int32)  # leaves half a word over
    words = generator_words(generator)
    assert words.shape == (GENERATOR_WORDS,) and words.dtype == np.uint64
    again = generator_of(words)
    np.testing.assert_array_equal(again.integers(9, size=20), generator.integers(9, size=20))
    np.testing.assert_array_equal(again.normal(size=5), generator.normal(size=5))
