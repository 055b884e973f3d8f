"""A part of a run."""

from typing import Any

import numpy as np


class Counter:
    """The smallest part: it counts."""

    def __init__(self) -> None:
        self.n = 0

    def state(self) -> dict[str, Any]:
        return {"n": np.array(self.n)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n = int(state["n"])
