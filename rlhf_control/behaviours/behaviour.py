"""What a behaviour is: a reward of steps to prefer clips by, and a score of episodes to measure success by."""

from collections.abc import Callable
from dataclasses import dataclass

from rlhf_control.data import Array, Segments

StepReward = Callable[[Segments], Array]  # (..., L, ...) -> (..., L)


@dataclass(frozen=True)
class Behaviour:
    """Describes a behaviour of one environment."""

    env_id: str
    question: str  # put to a person
    reward: Callable[[Segments], Array]  # (..., L): per step, in arbitrary units
    score: Callable[[Segments], Array]  # (...,): per clip or episode
    unit: str  # of the score
