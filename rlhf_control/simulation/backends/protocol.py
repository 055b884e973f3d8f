"""What `Envs` needs of whatever steps the environments. A backend is a file beside this one and an entry in the table
of `simulation.make`.

N environments, D numbers of a state.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gymnasium.vector import VectorEnv

from rlhf_control.data import Array


class StepResult(NamedTuple):
    """Holds what a step leads to."""

    obs: Array  # (N, ...)
    reward: Array  # (N,): the environment's own, of which returns are made
    terminated: Array  # (N,) bool
    truncated: Array  # (N,) bool
    last: Array | None  # if an episode ended: an object array (N,) of the last observations of those that did
    learned_from: Array | None = None  # (N,): the reward that is to be learned from, where it is another
    over: Array | None = None  # (N,) bool: whose return is complete, where an episode's end does not say it


class Backend(Protocol):
    """Steps N environments of one id, which begin their next episode in the step in which one ends."""

    @property
    def vector(self) -> VectorEnv:
        """Returns the environments as Gymnasium has them."""

    step_seconds: float  # simulated time of one step
    draws: bool  # `pictures` can be asked for

    def reset(self, seed: int | None = None) -> Array:
        """Begins new episodes and returns the observations (N, ...). The i-th environment is seeded with seed + i."""

    def step(self, action: Array) -> StepResult:
        """Carries out actions (N, ...). Raises NonFiniteError or UserError."""

    def states(self) -> Array | None:
        """Reads the states (N, D) float64 from which clips are drawn; None if there are none."""

    def drawn_whole(self, env_id: str, env: Mapping[str, Any]) -> bool:
        """Tells whether a clip that is drawn from `states` shows all that there is to see."""

    def picture(self, i: int) -> Array:
        """Has an environment draw itself, (height, width, 3) uint8. Raises UserError if it cannot."""

    def png(self, i: int) -> bytes:
        """Has an environment draw itself, as the PNG that records keep. Raises UserError if it cannot."""

    def state(self) -> dict[str, Any]:
        """Returns all that decides what comes next, under the key "inner" (and others)."""

    def load_state(self, state: Mapping[str, Any]) -> Array:
        """Brings the environments back and returns the observations. Raises UserError where they do not come back."""

    def probe(self) -> str:
        """Says in what a copy that was brought back differs: "" if in nothing."""

    def close(self) -> None:
        """Closes all of them."""
