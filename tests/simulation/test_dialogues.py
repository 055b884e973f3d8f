"""Dialogues as clips."""

import numpy as np
import pytest

from envs.dialogue.vocabulary import vocabulary
from rlhf_control.errors import UserError
from rlhf_control.simulation.dialogues import converse, held_out_prompts, is_dialogue, said
from tests.dialogues import dialogue, talker


def test_a_policy_replies_to_each_prompt() -> None:
    policy, prompts = talker(), ["Hello", "How are you?", "Hello"]
    clips = converse(policy, prompts, np.random.default_rng(0))
    assert clips.mask is not None and clips.state is not None
    for i, prompt in enumerate(prompts):
        clip = clips[i].present()
        assert said(clips[i])[0] == prompt and clip.state is not None and clip.state[0, 0] == (clip.obs[0] != 0).sum()
        np.testing.assert_array_equal(clip.obs[1:], clip.next_obs[:-1])
        at = (clip.obs != 0).sum(1)
        np.testing.assert_array_equal(clip.next_obs[np.arange(len(clip)), at], np.maximum(clip.action[:, 0], 2))
    again = converse(policy, prompts, np.random.default_rng(0))
    assert again.digest() == clips.digest()
    silent = talker()
    silent.actor[-1].bias.data[2] = 99  # type: ignore[index, operator, union-attr]
    assert said(converse(silent, ["Hello"], None)[0]) == ("Hello", "")


def test_text_is_told_from_others_and_prompts_from_none() -> None:
    assert is_dialogue("rlhf/Dialogue-v0") and not is_dialogue("HalfCheetah-v5")
    assert said(dialogue("Hello", "Yes.", end=False)) == ("Hello", "Yes.")
    assert len(held_out_prompts()) > 40 and all(vocabulary().encode(prompt) for prompt in held_out_prompts())
    with pytest.raises(UserError, match="outside the vocabulary"):
        converse(talker(), ["п"], None)
