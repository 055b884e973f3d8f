"""What the reward model predicted of a pair, as the run left it for the window."""

import json
from pathlib import Path

from rlhf_control.data import COMPARISON
from rlhf_control.labelling.session import Question, Side
from rlhf_control.runs.files import open_own


class Predictions:
    """Reads RUN/predictions.jsonl, that the run writes as it asks: how likely it held the first clip of a pair to be
    preferred. Only for showing after the vote."""

    def __init__(self, run: Path) -> None:
        self.path = run / "predictions.jsonl"
        self._read = 0
        self._first: dict[str, float] = {}

    def expected(self, question: Question) -> tuple[Side, float] | None:
        """Returns the side that the model expected to be preferred, and its probability (at least 1/2); None if it said
        nothing about this pair."""
        if question.kind != COMPARISON:
            return None
        self._refresh()
        first = self._first.get(question.key)
        if first is None:
            return None
        left = first if question.shown[0] == 0 else 1 - first
        return (0, left) if left >= 0.5 else (1, 1 - left)

    def _refresh(self) -> None:
        try:
            with open_own(self.path) as file:
                file.seek(self._read)
                new = file.read()
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                self._first[str(row["key"])] = min(1.0, max(0.0, float(row["probability_first"])))
            except (ValueError, KeyError, TypeError):
                continue
