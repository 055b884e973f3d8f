"""Dialogues, many side by side."""

import gymnasium
import numpy as np
import pytest

from envs import DialogueVectorEnv
from envs.dialogue import corpus
from envs.dialogue.env import Dialogue, prompt_tokens, texts
from envs.dialogue.vocabulary import END, vocabulary


def test_side_by_side_is_one_by_one() -> None:
    """Later episodes included, and beyond a snapshot that another copy goes on from."""
    many, ones = DialogueVectorEnv(5), [Dialogue() for _ in range(5)]
    obs, _ = many.reset(seed=7)
    np.testing.assert_array_equal(obs, [env.reset(seed=7 + i)[0] for i, env in enumerate(ones)])
    rng, another, ended = np.random.default_rng(0), DialogueVectorEnv(5), 0
    for t in range(90):
        actions = rng.integers(len(vocabulary()), size=5) * (rng.random(5) < 0.9)
        obs, _, terminated, truncated, info = many.step(actions)
        if t >= 40:
            np.testing.assert_array_equal(another.step(actions)[0], obs)
        for i, env in enumerate(ones):
            own, _, end, _, _ = env.step(int(actions[i]))
            assert end == terminated[i] and not (truncated[i] and not end)
            if end:
                ended += 1
                np.testing.assert_array_equal(info["final_obs"][i], own)
                own, _ = env.reset()
            np.testing.assert_array_equal(obs[i], own)
        if t == 39:
            another.restore(many.snapshot())
    assert ended > 20


def test_demonstrations_say_what_the_corpus_says() -> None:
    obs, action = DialogueVectorEnv.demonstrations(held_out=True)
    ends = np.flatnonzero(action[:, 0] == END)
    said = {texts(obs[i]) for i in ends}
    known = set(corpus.prompts(held_out=True))
    assert len(ends) > 40 and all(
        prompt.lower() in {texts(np.array(prompt_tokens(p)))[0].lower() for p in known} for prompt, _ in said
    )
    assert not known & set(corpus.prompts(held_out=False))


def test_others_are_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        DialogueVectorEnv(1).step(np.zeros(1, int))
    for options, said in (({"num_envs": 0}, "at least 1"), ({"render_mode": "ansi"}, "do not render")):
        with pytest.raises(ValueError, match=said):
            DialogueVectorEnv(**options)
    with pytest.raises(ValueError, match="snapshot of 3"):
        other = DialogueVectorEnv(3)
        other.reset(seed=0)
        DialogueVectorEnv(2).restore(other.snapshot())


def test_fewer_tokens_are_a_time_limit() -> None:
    envs = DialogueVectorEnv(2, max_episode_steps=3)
    envs.reset(seed=0)
    letter = np.full(2, END + 1)
    flags = [envs.step(letter)[2:4] for _ in range(3)]
    assert [bool(truncated.all()) for _, truncated in flags] == [False, False, True]
    assert not any(terminated.any() for terminated, _ in flags)
