"""Dialogues as clips: which are text, what was said in them, and replies to given prompts.

S prompts, L steps of a clip, O tokens of a context.
"""

from collections.abc import Sequence

import numpy as np

from envs import DIALOGUE
from envs.dialogue import corpus
from envs.dialogue.env import PROMPT, Dialogues, prompt_tokens, texts
from envs.dialogue.vocabulary import vocabulary
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.rollouts import Actor


def is_dialogue(env_id: str) -> bool:
    """Tells whether clips of an environment are text."""
    return env_id.rpartition(":")[2] == DIALOGUE


def said(clip: Segments) -> tuple[str, str]:
    """Returns what was said to whom replies in a clip (L, ...), and the reply up to the clip's end."""
    return texts(clip.present().next_obs[-1])


def held_out_prompts() -> list[str]:
    """Returns the corpus's prompts that are not learned from."""
    return [prompt for prompt in corpus.prompts(held_out=True) if len(vocabulary().encode(prompt)) < PROMPT]


def converse(actor: Actor, prompts: Sequence[str], rng: np.random.Generator | None) -> Segments:
    """Has a policy reply to prompts, side by side: clips (S, L, ...), sampled or, without an rng, always the likeliest
    token. Raises UserError for what is no prompt."""
    rules, act = Dialogues(len(prompts)), actor.acting()
    try:
        for i, prompt in enumerate(prompts):
            rules.begin(i, prompt_tokens(prompt))
    except ValueError as error:
        raise UserError(str(error)) from None
    begins, running = rules.begins[:, None].astype(np.float64), np.ones(len(prompts), bool)
    steps: list[dict[str, np.ndarray]] = []
    while running.any():
        obs, who = rules.context.copy(), np.flatnonzero(running)
        action, mask = act(obs, rng), running.copy()
        running[who] = ~rules.say(action[who, 0], who)
        columns: dict[str, np.ndarray] = {"obs": obs, "action": action.astype(np.float32), "mask": mask}
        steps.append(columns | {"next_obs": rules.context.copy()})
    arrays = {name: np.stack([step[name] for step in steps], 1) for name in steps[0]}
    states = np.repeat(begins[:, None], len(steps), 1)
    return Segments(**arrays, env_reward=np.zeros(arrays["mask"].shape, np.float32), state=states)
