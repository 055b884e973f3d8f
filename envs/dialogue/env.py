"""Dialogue as Gymnasium's single environment, and the rules of it. The docstring of `Dialogue` is its manual.

N dialogues side by side, O tokens of a context.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.dialogue import corpus
from envs.dialogue.vocabulary import END, PAD, TURN, vocabulary

Array = np.ndarray

PROMPT, REPLY = 32, 24  # tokens: of a prompt with the mark that ends it, and of a reply with its own, at most
CONTEXT = PROMPT + REPLY
FPS = 10  # tokens a second, about as fast as one reads
SHARE = 4
DROPPED, SPELT, OTHER = 0.12, 0.04, 0.3  # of the words of a prompt, and of all prompts
NEAR = 12  # turns: the corpus goes from topic to topic
CORPUS, HELD_OUT = "", "held-out"  # what `prompts` may be beside prompts themselves


def spaces() -> tuple[Box, Discrete]:
    """Return the spaces of a dialogue."""
    size = len(vocabulary())
    return Box(PAD, size - 1, (CONTEXT,), np.int16), Discrete(size)


def prompt_tokens(prompt: str) -> list[int]:
    """Return the context that a reply to this prompt begins from. Raises ValueError for one that is no prompt."""
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt is a text, not {prompt!r}")
    tokens = vocabulary().encode(prompt)
    if not tokens:
        raise ValueError("a prompt is empty; give it a word")
    if len(tokens) >= PROMPT:
        raise ValueError(f"the prompt '{prompt[:20]}...' has {len(tokens)} tokens, but {PROMPT - 1} fit; shorten it")
    return [*tokens, TURN]


def prompts_of(given: str) -> list[list[int]]:
    """Return the contexts of the prompts that the option `prompts` asks for."""
    if given in (CORPUS, HELD_OUT):
        fitting = [vocabulary().encode(prompt) for prompt in corpus.prompts(held_out=given == HELD_OUT)]
        return [[*tokens, TURN] for tokens in fitting if 0 < len(tokens) < PROMPT]
    if given.isspace():
        raise ValueError("a prompt is empty; give it a word")
    return [prompt_tokens(line) for line in given.split("\n")]


def in_lines(prompts: Sequence[str]) -> str:
    """Return the option `prompts` for these. Raises ValueError for what is no prompt."""
    if isinstance(prompts, str):
        raise ValueError(f"prompts is a list of texts, not one; give ['{prompts[:20]}']")
    for prompt in prompts:
        prompt_tokens(prompt)
    return "\n".join(" ".join(prompt.split()) for prompt in prompts)


class Dialogues:
    """Holds to the rules, for N dialogues: a context each, which actions append to."""

    def __init__(self, n: int) -> None:
        self.context = np.zeros((n, CONTEXT), np.int16)
        self.length = np.zeros(n, np.int64)  # tokens of the context
        self.begins = np.zeros(n, np.int64)  # those of the prompt, with its mark

    def begin(self, i: int, tokens: Sequence[int]) -> None:
        self.context[i] = PAD
        self.context[i, : len(tokens)] = tokens
        self.length[i] = self.begins[i] = len(tokens)

    def say(self, actions: Array, who: Array | None = None) -> Array:
        """Append a token (n,) to each, or to those at these places (n,), and tell where that ends the reply, (n,) bool.
        Every mark ends it."""
        who = np.arange(len(self.length)) if who is None else who
        ends = actions <= END
        self.context[who, self.length[who]] = np.where(ends, END, actions)
        self.length[who] += 1
        return ends | (self.length[who] - self.begins[who] >= REPLY)


def tokens_of(turns: Iterable[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of turns, marks included. Those that do not fit are left out."""
    encode = vocabulary().encode
    both = [([*encode(prompt), TURN], [*encode(reply), END]) for prompt, reply in turns]
    return [(begin, said) for begin, said in both if len(begin) <= PROMPT and len(said) <= REPLY]


def blurred(prompts: Sequence[list[int]], i: int, rng: np.random.Generator) -> list[int]:
    """Return the i-th prompt as somebody else might put it: words left out, some spelt; or, often, one of the prompts
    near by, which are about the same. Who learns replies to these still has something to say to what is new, and to
    what is known there is more than one reply."""
    if rng.random() < OTHER:
        i = int(np.clip(i + rng.integers(-NEAR, NEAR + 1), 0, len(prompts) - 1))
    known, blurry = vocabulary(), []
    for token in prompts[i][:-1]:
        chance = rng.random()
        if chance >= DROPPED + SPELT:
            blurry.append(token)
        elif chance >= DROPPED:
            blurry += [known.number[letter] for letter in known.pieces[token]]
    return [*blurry[: PROMPT - 1], TURN]


def steps_of(turns: Iterable[tuple[list[int], list[int]]]) -> tuple[Array, Array]:
    """Return turns in tokens as steps: contexts (M, O) and the token that follows each (M, 1)."""
    contexts, actions = [], []
    for begin, said in turns:
        rules = Dialogues(1)
        rules.begin(0, begin)
        for token in said:
            contexts.append(rules.context[0].copy())
            actions.append([token])
            rules.say(np.array([token]))
    return np.stack(contexts), np.array(actions)


def texts(context: Array) -> tuple[str, str]:
    """Return the prompt and the reply, as far as it is there, of a context (O,)."""
    tokens = context[context != PAD].astype(int).tolist()
    turn = tokens.index(TURN) if TURN in tokens else len(tokens)
    return vocabulary().decode(tokens[:turn]), vocabulary().decode(tokens[turn + 1 :])


def checked_actions(actions: Any, n: int) -> Array:
    """Return actions (n,) int64."""
    given, size = np.asarray(actions), len(vocabulary())
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ValueError(f"actions of a dialogue are ({n},) tokens, whole numbers, not {given.dtype} {given.shape}")
    if wrong := [int(token) for token in given if not 0 <= token < size]:
        raise ValueError(f"a token is 0 to {size - 1}, not {wrong[0]}")
    return given.astype(np.int64)


def checked_share(share: Any) -> int:
    if isinstance(share, bool) or not isinstance(share, int | np.integer) or share < 1:
        raise ValueError(f"share is {share!r}; it is a whole number of at least 1")
    return int(share)


class Dialogue(gymnasium.Env[Array, np.int64]):
    """`rlhf/Dialogue-v0`: reply to a prompt, a token an action.

    Tokens are words, punctuation marks and letters (`vocabulary`); 0 to 2 are marks: nothing, the end of the prompt,
    the end of the reply.

    Actions, Discrete(1952): the reply's next token. Any mark ends it.

    Observations, Box(0, 1951, (56,), int16): the prompt, its mark and the reply so far, from the left; zeros behind.

    Reward: 0. What a good reply is, people say.

    Start: a prompt, drawn by the generator; `reset(options={"prompt": text})` sets one. Environments whose seeds lie in
    one block of `share` (0 to 3, 4 to 7, ...) draw the same prompts in the same order, so that there are several
    replies to each, for people to compare.

    End: `terminated` by the mark or after 24 tokens.

    Options: prompts: the corpus's ("", see `corpus`), those of it that are not learned from ("held-out"), or your own,
    a line each; share; render_mode ("ansi": `render` gives the dialogue as text).
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi"], "render_fps": FPS, "whole_episodes": True,
    }  # fmt: skip

    def __init__(self, prompts: str = CORPUS, share: int = SHARE, render_mode: str | None = None) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.observation_space, self.action_space = spaces()
        self.prompts, self.share = prompts_of(prompts), checked_share(share)
        self._rules = Dialogues(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin with the next prompt, or with `options["prompt"]`. Raises ValueError for what is no prompt."""
        super().reset(seed=None if seed is None else seed // self.share)
        drawn = self.prompts[int(self.np_random.integers(len(self.prompts)))]
        given = None if options is None else options.get("prompt")
        self._rules.begin(0, drawn if given is None else prompt_tokens(given))
        return self._rules.context[0].copy(), {}

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        ended = self._rules.say(checked_actions([action], 1))
        return self._rules.context[0].copy(), 0.0, bool(ended[0]), False, {}

    def render(self) -> str | None:
        """Return the dialogue as text, with the render mode "ansi"."""
        return None if self.render_mode is None else "\n".join(texts(self._rules.context[0]))


def checked_render_mode(mode: str | None) -> str | None:
    if mode not in (None, "ansi"):
        near = difflib.get_close_matches(str(mode), ["ansi"]) or ["ansi"]
        raise ValueError(f"render_mode is {mode!r}; a dialogue is text: '{near[0]}'")
    return mode
