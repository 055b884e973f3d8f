"""Options of annotators and of what they are asked: what cannot be."""

import pytest

from rlhf_control.config import AnnotatorConfig, HumanConfig, QueryConfig
from rlhf_control.errors import UserError


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: AnnotatorConfig(mistake=1.1), r"annotator\.mistake"),
        (lambda: AnnotatorConfig(levels=1), r"annotator\.levels"),
        (lambda: QueryConfig(recent_share=0.6, older_share=0.5), "more than the whole"),
        (lambda: QueryConfig(repeat_share=0.6), r"query\.repeat_share"),
        (lambda: QueryConfig(attempts=0), r"query\.attempts"),
        (lambda: HumanConfig(lead=1.5), r"human\.lead"),
        (lambda: HumanConfig(open_queries=0), r"human\.open_queries"),
    ],
)
def test_impossible_values_are_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make()  # type: ignore[operator]


def test_people_may_be_waited_for_never() -> None:
    assert HumanConfig(lead=1.0).lead == 1.0
