"""Named random streams.

Every use of randomness has a stream of its own, addressed by name and number: `stream(seed, "act", 17)`.
Nothing random is carried from one iteration to the next, so a resumed run needs no generator states and a
change in one place cannot shift the numbers of another.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlhf_control.errors import UserError


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Makes the generator of this seed, use and place (iteration, round, ...)."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *index])


def generator_state(generator: Any) -> Mapping[str, Any]:
    """Returns where a generator of NumPy's stands, an old RandomState too; empty if it is something else."""
    if isinstance(generator, np.random.RandomState):
        state = generator.get_state(legacy=False)
        assert isinstance(state, dict)
        return state
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else {}


def set_generator_state(generator: Any, state: Mapping[str, Any]) -> None:
    """Brings a generator to where `generator_state` found it. Raises UserError where it found nothing."""
    if not state or not isinstance(generator, np.random.Generator | np.random.RandomState):
        raise UserError(f"np_random of the environment is a {type(generator).__name__}, which cannot be resumed")
    if isinstance(generator, np.random.RandomState):
        generator.set_state(dict(state))
    else:
        generator.bit_generator.state = state
