"""Random generators as rows of whole numbers, for snapshots."""

import numpy as np

GENERATOR_WORDS = 6


def generator_words(generator: np.random.Generator) -> np.ndarray:
    """Returns the state of a PCG64 generator, (6,) uint64: two 128-bit integers, low word first, a buffered uint32."""
    state = generator.bit_generator.state
    words = [word for key in ("state", "inc") for word in (state["state"][key] % 2**64, state["state"][key] >> 64)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def generator_of(words: np.ndarray) -> np.random.Generator:
    """Makes the generator whose `generator_words` are `words`, (6,) uint64."""
    low, high, inc_low, inc_high, has_uint32, uinteger = (int(word) for word in words)
    bit_generator = np.random.PCG64()
    bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": low | high << 64, "inc": inc_low | inc_high << 64},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bit_generator)
