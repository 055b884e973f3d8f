"""What people said and what was answered: the English part of `chatterbot-corpus` (BSD licence), without code, politics
and questions of a quiz. It comes with the extra [dialogue]; nothing is fetched."""

import functools
from importlib import resources
from importlib.util import find_spec

Turn = tuple[str, str]  # what is said, and a reply

LEFT_OUT = ("coding", "politics", "trivia")
IN_A_ROW = ("conversations", "health")  # in the others every line answers the first
HELD_OUT = 10  # every so manieth prompt is not learned from


@functools.cache
def turns() -> tuple[Turn, ...]:
    """Returns all turns of one line, each once, in the corpus's order. Raises ValueError where it is not installed."""
    if find_spec("chatterbot_corpus") is None or find_spec("yaml") is None:
        raise ValueError("the prompts of dialogue need `pip install 'rlhf_control[dialogue]'`, or prompts of your own")
    import yaml

    found: dict[Turn, None] = {}
    folder = resources.files("chatterbot_corpus") / "data" / "english"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        name = file.name.removesuffix(".yml")
        if name == file.name or name in LEFT_OUT:
            continue
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for lines in yaml.load(file.read_text("utf-8"), loader)["conversations"]:
            said = [" ".join(line.split()) for line in lines] if isinstance(lines, list) else []
            before = said if name in IN_A_ROW else said[:1] * len(said)
            found |= {turn: None for turn in zip(before, said[1:], strict=False) if all(turn)}
    return tuple(found)


def prompts(*, held_out: bool) -> list[str]:
    """Returns the different prompts, those that are held out from learning or the others."""
    known = list(dict.fromkeys(prompt.lower() for prompt, _ in turns()))
    return [prompt for i, prompt in enumerate(known) if (i % HELD_OUT == HELD_OUT // 2) == held_out]
