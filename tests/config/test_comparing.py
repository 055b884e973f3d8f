import pytest

from rlhf_control.config.comparing import BenchConfig, CompareConfig
from rlhf_control.errors import UserError


def test_every_bench_has_a_file_of_its_own() -> None:
    assert BenchConfig("window").path() == "bench_window.json"
    assert BenchConfig("ppo", out="x.json").path() == "x.json"
    with pytest.raises(UserError, match="what"):
        BenchConfig("wnidow")  # type: ignore[arg-type]


def test_a_comparison_has_two_sides_and_a_level() -> None:
    CompareConfig(("a", "b"), ("c",), level=0.9)
    for wrong in ({"runs": ()}, {"against": ()}, {"level": 1.0}, {"episodes": 0}, {"seed": -1}):
        with pytest.raises(UserError):
            CompareConfig(**{"runs": ("a",), "against": ("b",)} | wrong)  # type: ignore[arg-type]
