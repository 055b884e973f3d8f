from pathlib import Path

from rlhf_control.analysis.report import spread
from rlhf_control.analysis.tables import terminal_table


def test_tables_line_up(tmp_path: Path) -> None:
    lines = terminal_table([("score", "1.00 ± 0.10", "20.00 ± 0.10"), ("labels", "", "100")]).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert spread([1.0, 3.0], 1) == "2.0 ± 1.0"
