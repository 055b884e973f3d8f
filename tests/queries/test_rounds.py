"""When is asked how much."""

from dataclasses import replace

import pytest

from rlhf_control.config import FinetuneConfig, HumanConfig
from rlhf_control.errors import UserError
from rlhf_control.queries.rounds import LabelRound, asked_sooner, clips_needed, label_rounds, share_due

PEOPLE = FinetuneConfig("p", oracle="human")


def test_label_rounds_are_spread_over_the_first_part_of_the_run() -> None:
    """122 iterations; from the first, rounds in steps of 0.7 * 122 / 9 = 9.49."""
    config = replace(PEOPLE, labels=100, first_labels=20)
    rounds = label_rounds(config, 0)
    assert list(rounds) == [0, 9, 18, 28, 37, 47, 56, 66, 75]
    assert [r.labels for r in rounds.values()] == [20] + [10] * 8
    assert min(label_rounds(config, 2)) == 2
    with pytest.raises(UserError, match=r"2,048 steps each; give --total-steps 387072 or more, or --rounds 43$"):
        label_rounds(replace(config, rounds=90), 60)
    label_rounds(replace(config, rounds=90, total_steps=387072), 60)
    label_rounds(replace(config, rounds=43), 60)
    for change in ({"rounds": 90, "total_steps": 387072 - 2048}, {"rounds": 44}):
        with pytest.raises(UserError, match="do not fit"):
            label_rounds(replace(config, **change), 60)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"40 clips, which there are after 121 iterations.*lower --labels"):
        label_rounds(config, 120)
    assert label_rounds(replace(config, labelling="async"), 3) == {3: LabelRound(0, 20)}
    assert clips_needed(config) == 40
    many = replace(config, labelling="async", human=HumanConfig(open_queries=30))
    assert clips_needed(many) == 60


def test_what_is_left_is_planned_anew_from_the_round_that_comes_sooner() -> None:
    """After iteration 0 of the rounds above, of which eight are left: one in 4 iterations, the others evenly, in steps
    of (85.4 - 4) / 8 = 10.175; after 4 again, in steps of (85.4 - 8) / 7 = 11.06."""
    rounds = label_rounds(replace(PEOPLE, labels=100, first_labels=20), 0)
    planned = asked_sooner(rounds, 0, 4, 85.4)
    assert list(planned) == [0, 4, 14, 24, 34, 44, 54, 65, 75]
    assert [r.index for r in planned.values()] == list(range(9))
    assert list(asked_sooner(planned, 4, 4, 85.4)) == [0, 4, 8, 19, 30, 41, 52, 63, 74]
    assert asked_sooner(rounds, 0, 9, 85.4) == asked_sooner(rounds, 5, 9, 85.4) == rounds  # it comes as soon anyway
    assert asked_sooner(rounds, 75, 4, 85.4) == rounds  # nothing is left
    uneven = {
        0: LabelRound(0, 8),
        9: LabelRound(1, 25),
        18: LabelRound(2, 7),
    }  # the last ones of the budget ask nothing
    assert list(asked_sooner(uneven, 0, 4, 85.4)) == [0, 4, 18]  # not 44


def test_a_share_holds_over_all_rounds() -> None:
    had = 0
    for asked, more in ((0, 20), (20, 10), (30, 10), (40, 1), (41, 59)):
        had += share_due(0.05, asked, more, had)
    assert had == 5
    assert share_due(0.05, 0, 19, 0) == 0 and share_due(0.5, 0, 1, 0) == 0 and share_due(0.5, 1, 1, 0) == 1
    assert share_due(0.1, 100, 3, 0) == 3  # not more than there is room for
