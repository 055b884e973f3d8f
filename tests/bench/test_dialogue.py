from pathlib import Path

import pytest

from rlhf_control.bench import dialogue
from rlhf_control.errors import UserError


def test_a_peer_stands_beside_ours() -> None:
    def run(seconds: float) -> dict:
        return {"steps": 2000, "seconds": seconds, "parts": {"rollout": seconds / 4, "update": seconds / 2}}

    learners = {
        "ours": {"version": "1", "runs": [run(1.0), run(2.0)]},
        "transformers": {"version": "5", "runs": [run(4.0), run(4.0)]},
    }
    said = dialogue.table({"learners": learners, "processor": "any", "python": "3", "cores": 2})
    assert "| transformers 5 | 2,000 | 1,000 | 500 (500 to 500) | **3.0** (2.0 to 4.0) |" in said
    assert "--dialogue-python" in dialogue.table(
        {"learners": {"ours": learners["ours"]}, "processor": "", "python": "", "cores": 2}
    )


def test_a_peer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transformers could not be timed"):
        dialogue.Speaker("transformers", str(tmp_path / "python"))
