"""Dialogues by hand, and a policy that says anything."""

import numpy as np
import torch

from envs import DIALOGUE
from envs.dialogue.env import Dialogues, prompt_tokens, spaces
from envs.dialogue.vocabulary import END, vocabulary
from rlhf_control.config import NetConfig
from rlhf_control.data import Segments
from rlhf_control.nets.policy import Policy
from rlhf_control.spaces import Spaces

NET = NetConfig(hidden=(), critic_hidden=(8,), width=8, layers=1, heads=2)
PROMPTS = "Hello\nHow are you?"


def dialogue(prompt: str, reply: str, *, end: bool = True) -> Segments:
    """A clip (L, ...) of somebody who says this."""
    rules, obs = Dialogues(1), []
    rules.begin(0, prompt_tokens(prompt))
    said = vocabulary().encode(reply) + [END] * end
    for token in said:
        obs.append(rules.context[0].copy())
        rules.say(np.array([token]))
    obs.append(rules.context[0].copy())
    states = np.full((len(said), 1), rules.begins[0], np.float64)
    return Segments(
        np.array(obs[:-1]),
        np.array(said, np.float32)[:, None],
        np.array(obs[1:]),
        np.zeros(len(said), np.float32),
        states,
    )


def talker(bias: float = 5.5) -> Policy:
    """Says anything, some nine tokens of it."""
    policy = Policy(Spaces.of(*spaces()), NET, 0, DIALOGUE, {"prompts": PROMPTS})
    with torch.no_grad():
        policy.actor[-1].bias[END] = bias  # type: ignore[operator]
    return policy
