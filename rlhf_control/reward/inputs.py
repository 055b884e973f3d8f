"""Which numbers of a step the reward's networks read.

I inputs.
"""

from torch import Tensor

from rlhf_control.config import RewardConfig
from rlhf_control.errors import UserError
from rlhf_control.reward.ensemble import INPUT_CLIP
from rlhf_control.reward.squares import with_squares


def parts_of(obs_parts: tuple[str, ...], size: int) -> list[slice]:
    """Returns the chosen parts of observations of this size. Raises UserError if one reaches beyond."""
    slices = []
    for part in obs_parts:
        first, colon, last = part.partition(":")
        start, stop = int(first or 0), int(last or size) if colon else int(first) + 1
        if not start < stop <= size:
            raise UserError(f"reward.obs_parts has '{part}', but an observation has the numbers 0:{size}")
        slices.append(slice(start, stop))
    return slices or [slice(0, size)]


def layer_sizes(obs_size: int, action_size: int, config: RewardConfig) -> tuple[int, ...]:
    """Returns how many numbers go in, are in each hidden layer, and come out."""
    seen = sum(part.stop - part.start for part in parts_of(config.obs_parts, obs_size))
    inputs = seen + (action_size if config.inputs == "state-action" else 0)
    return (inputs * (2 if config.squares == "on" else 1), *config.hidden, 1)


def as_read(x: Tensor, config: RewardConfig) -> Tensor:
    """Returns what the networks read of standardised inputs (..., I): clipped, maybe with their squares behind them."""
    return with_squares(x, INPUT_CLIP) if config.squares == "on" else x.clamp(-INPUT_CLIP, INPUT_CLIP)
