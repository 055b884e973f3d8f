"""Replies side by side."""

from rlhf_control.analysis.replies import replies_table, spoken
from tests.dialogues import talker


def test_the_same_prompts_are_answered_by_each() -> None:
    quiet = talker(99.0)
    table = replies_table([("before", talker()), ("after", quiet)], ["Hello", "How are you?"]).split("\n")
    assert len(table) == 4 and table[0] == "| prompt | before | after |"
    assert all(line.count(" | ") >= 2 and line.endswith("| (nothing) |") for line in table[2:])
    assert spoken(talker(), ["Hello"], 3) == spoken(talker(), ["Hello"], 3) != spoken(talker(), ["Hello"], 4)
