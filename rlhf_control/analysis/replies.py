"""What policies reply, side by side, in the place of a video."""

from collections.abc import Sequence

import numpy as np

from rlhf_control.analysis.evaluate import SEED
from rlhf_control.compute.threads import one_thread
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.dialogues import converse, said

PROMPTS = (
    "Hello", "How are you?", "What is your name?", "Tell me a joke", "Are you a robot?", "I am sad",
    "Do you like music?", "You are stupid", "My computer is slow", "Thank you",
)  # fmt: skip


@one_thread()
def spoken(policy: Policy, prompts: Sequence[str] = PROMPTS, seed: int = SEED) -> list[str]:
    """Returns what a policy replies to each prompt: a sample, the same for the same seed."""
    clips = converse(policy, prompts, np.random.default_rng(seed))
    return [said(clips[i])[1] for i in range(len(prompts))]


def replies_table(policies: Sequence[tuple[str, Policy]], prompts: Sequence[str] = PROMPTS) -> str:
    """Returns the replies of titled policies to the same prompts, as a table in Markdown."""
    columns = [spoken(policy, prompts) for _, policy in policies]
    rows = [("prompt", *(title for title, _ in policies)), ("---",) * (1 + len(columns))]
    rows += [*zip(prompts, *columns, strict=True)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") or "(nothing)" for cell in row) + " |" for row in rows)
