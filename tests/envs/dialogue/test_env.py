"""Dialogue as a single environment, and many side by side."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import DIALOGUE, DialogueVectorEnv
from envs.dialogue import corpus
from envs.dialogue.env import CONTEXT, PROMPT, REPLY, Dialogue, blurred, prompt_tokens, texts, tokens_of
from envs.dialogue.vocabulary import END, TURN, vocabulary


def test_gymnasium_finds_nothing_to_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(DIALOGUE).unwrapped)
    assert len(vocabulary()) == 1952 and CONTEXT == 56  # as the manual says


def test_a_reply_is_what_was_said_until_a_mark_or_the_limit() -> None:
    env = Dialogue(render_mode="ansi")
    env.reset(seed=0, options={"prompt": "How are you?"})
    said = vocabulary().encode("I am fine.")
    for token in said:
        assert env.step(token)[1:4] == (0.0, False, False)
    assert env.render() == "How are you?\nI am fine."
    obs, _, terminated, truncated, _ = env.step(TURN)  # any mark
    assert terminated and not truncated and obs.tolist()[: len(said) + 6][-1] == END
    assert texts(obs) == ("How are you?", "I am fine.")
    env.reset(options={"prompt": "how are you"})
    ends = [env.step(said[0])[2] for _ in range(REPLY)]
    assert ends == [False] * (REPLY - 1) + [True]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("", "is empty"), (" \t", "is empty"), ("word " * 40, f"{PROMPT - 1} fit"), ("привет", "outside the vocabulary")],
)
def test_what_is_no_prompt_is_refused_in_one_line(prompt: str, said: str) -> None:
    for refused in (
        lambda: Dialogue().reset(options={"prompt": prompt}),
        lambda: Dialogue(prompts=f"Hello\n{prompt}"),
        lambda: DialogueVectorEnv(2, prompts=f"Hello\n{prompt}"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            refused()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [-1, 1952])
def test_a_token_that_is_none_is_refused(action: int) -> None:
    env = Dialogue()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="0 to 1951"):
        env.step(action)
    with pytest.raises(ValueError, match="ansi"):
        Dialogue(render_mode="rgb_array")
    with pytest.raises(ValueError, match="share"):
        Dialogue(share=0)


def test_a_block_of_seeds_draws_the_same_prompts() -> None:
    def prompts(seed: int, **options: Any) -> list[str]:
        env = Dialogue(**options)
        return [texts(env.reset(seed=seed if k == 0 else None)[0])[0] for k in range(6)]

    assert prompts(4) == prompts(7) != prompts(8)
    assert prompts(4, share=1) != prompts(5, share=1)
    held_out = prompts(0, prompts="held-out")
    assert {p.lower() for p in held_out} <= {plain(p) for p in corpus.prompts(held_out=True)}
    assert set(prompts(0, prompts="Hello\nGood bye")) == {"Hello", "Good bye"}


def plain(prompt: str) -> str:
    return texts(np.array(prompt_tokens(prompt)))[0].lower()


def test_blurred_prompts_stay_prompts() -> None:
    prompts = [begin for begin, _ in tokens_of(corpus.turns())]
    rng = np.random.default_rng(0)
    blurry = [blurred(prompts, i, rng) for i in range(len(prompts))]
    assert all(tokens[-1] == TURN and len(tokens) <= PROMPT for tokens in blurry)
    assert 0.2 < np.mean([a == b for a, b in zip(prompts, blurry, strict=True)]) < 0.8
