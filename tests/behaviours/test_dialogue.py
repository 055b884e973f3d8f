"""Behaviours of dialogue."""

import numpy as np
import pytest

from envs import DIALOGUE
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.dialogue import at_the_end, brevity, cheer, politeness, replies
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from tests.dialogues import dialogue

NAMES = [name for name, behaviour in BEHAVIOURS.items() if behaviour.env_id == DIALOGUE]


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("cheerful", "I love it!", "I hate it!"),
        ("cheerful", "I am happy.", "I am happy. It is what it is, and what it is not it is not, and that is that."),
        ("cheerful", "I am happy.", "No."),
        ("brief", "No.", "I am doing very well."),
        ("brief", "I am doing very well.", ""),
        ("polite", "Thank you.", "No."),
        ("polite", "No.", "You are stupid."),
        ("polite", "Thank you, sorry.", "Thank you."),
    ],
)
def test_the_better_reply_is_worth_more(name: str, better: str, worse: str) -> None:
    both = [dialogue("How are you?", reply) for reply in (better, worse)]
    pool, reward = Segments.stack(both), BEHAVIOURS[name].reward
    sums = [float(reward(clip).sum()) for clip in both]
    assert sums[0] > sums[1] + 0.01
    there = np.ones(pool.env_reward.shape, bool) if pool.mask is None else pool.mask
    np.testing.assert_allclose(np.where(there, reward(pool), 0).sum(-1), sums)
    assert BEHAVIOURS[name].score(pool)[0] >= BEHAVIOURS[name].score(pool)[1]


@pytest.mark.parametrize("name", NAMES)
def test_steps_add_up_to_the_worth_of_the_reply(name: str) -> None:
    clip = dialogue("Tell me a joke", "Thank you, I am happy. You are stupid.")
    worth = {"cheerful": cheer, "brief": brevity, "polite": politeness}[name]
    total = worth("Thank you, I am happy. You are stupid.") - worth("")
    assert BEHAVIOURS[name].reward(clip).sum() == pytest.approx(total)
    assert BEHAVIOURS[name].reward(clip[3:]).shape == (len(clip) - 3,), "and so can be a part of it"


def test_what_fills_a_clip_up_is_not_read() -> None:
    pool = Segments.stack([dialogue("Hello", "Yes."), dialogue("Hello", "I am doing well, thank you.")])
    assert replies(pool) == ["Yes.", "I am doing well, thank you."] == replies(pool[:1]) + replies(pool[1])


def test_the_prompt_is_not_judged() -> None:
    kind, unkind = (dialogue(prompt, "No.") for prompt in ("I love you, thank you", "I hate you, idiot"))
    for name in NAMES:
        np.testing.assert_array_equal(BEHAVIOURS[name].reward(kind), BEHAVIOURS[name].reward(unkind))


def test_other_steps_are_refused() -> None:
    steps = Segments(np.zeros((3, 4)), np.zeros((3, 1)), np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(UserError, match="contexts of 56"):
        BEHAVIOURS["brief"].reward(steps)


@pytest.mark.parametrize("given", [[1.0, 2.0, 3.0], 1.0, None, ["a", "b"], [[1.0], [2.0]]])
def test_a_reward_of_whole_replies_is_a_number_for_each(given: object) -> None:
    clips = Segments.stack([dialogue("Hello", reply) for reply in ("It is very good!", "Bad!")])
    values = at_the_end(lambda prompts, outputs: [float(len(output)) for output in outputs])(clips)
    assert values.sum(-1).tolist() == [16.0, 4.0], "what fills up the shorter one counts for nothing"
    with pytest.raises(UserError, match="a number for each, but 2 replies got"):
        at_the_end(lambda prompts, outputs: given)(clips)  # type: ignore[arg-type,return-value]
