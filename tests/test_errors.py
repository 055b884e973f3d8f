import pytest

from rlhf_control.errors import Halted, Stopped, UserError, guarded, unknown_name


def test_an_unknown_name_suggests_the_nearest() -> None:
    said = str(unknown_name("flavour", "vanila", ["vanilla", "chocolate"]))
    assert "unknown flavour" in said and "did you mean vanilla" in said


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("no"), 2), (Halted("no"), 3), (Stopped(15, "go on"), 143), (MemoryError(), 2)]
)
def test_an_error_is_one_line_and_a_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert guarded(work) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_work_that_returns_a_code_keeps_it() -> None:
    assert guarded(lambda: 7) == 7
