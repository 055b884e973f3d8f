"""Named random streams.

Every use of randomness has a stream of its own, addressed by name and number: `stream(seed, "act", 17)`.
Nothing random is carried from one iteration to the next, so a resumed run needs no generator states and a
change in one place cannot shift the numbers of another.
"""

import zlib

import numpy as np


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """The generator of this seed, use and place (iteration, round, ...)."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *index])
