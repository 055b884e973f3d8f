"""Behaviours of dialogue: how a reply is worded.

A reward is the gain in worth of the reply by a token, so that their sum is the worth of the whole, whatever stands
before it; the score looks at the whole reply by another measure. What VADER says of sentiment (Hutto and Gilbert,
ICWSM 2014; MIT licence) is a lexicon's word, from -1 to 1; it comes with the extra [dialogue]. The weights, thresholds
and the words of politeness are design choices of this project.
"""

import functools
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from envs import DIALOGUE
from envs.dialogue.env import CONTEXT, REPLY, texts
from envs.dialogue.vocabulary import END, PAD, TURN
from rlhf_control.behaviours.behaviour import StepReward
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError

TOKEN = 0.01  # what a token costs a cheerful reply
POSITIVE = 0.05  # VADER's own threshold
LONGEST_CHEERFUL, LONGEST_BRIEF = 12, 4  # words
POLITE = (
    "please", "thank", "thanks", "sorry", "welcome", "glad", "pleasure", "appreciate", "kind", "would", "could", "may",
    "excuse", "pardon", "certainly", "happy",
)  # fmt: skip
RUDE = ("stupid", "dumb", "shut", "hate", "idiot", "ugly", "liar", "boring", "never", "crazy", "worst")
Worth = Callable[[str], float]


def _contexts(obs: Array) -> Array:
    if obs.shape[-1] != CONTEXT or obs.dtype.kind != "i":
        raise UserError(
            f"behaviours of {DIALOGUE} read its contexts of {CONTEXT} tokens, which these steps do not have"
        )
    return obs


def _worths(obs: Array, worth: Worth) -> Array:
    """(...) of contexts (..., O)"""
    rows = _contexts(obs).reshape(-1, CONTEXT)
    known: dict[bytes, float] = {}
    found = [known.setdefault(key, worth(reply(key))) if (key := row.tobytes()) not in known else known[key]
             for row in rows.astype(np.int16)]  # fmt: skip
    return np.array(found).reshape(obs.shape[:-1])


@functools.lru_cache(20_000)
def reply(context: bytes) -> str:
    """Returns the text of the reply in the bytes of a context (O,) int16."""
    return texts(np.frombuffer(context, np.int16))[1]


def replies(s: Segments) -> list[str]:
    """Returns the whole replies of clips or episodes (..., L, ...), in a row."""
    ends = _contexts(s.next_obs).reshape(-1, *s.next_obs.shape[-2:])
    masks = np.ones(ends.shape[:2], bool) if s.mask is None else s.mask.reshape(ends.shape[:2])
    last = ends[np.arange(len(ends)), masks.sum(1) - 1]
    return [reply(row.tobytes()) for row in last.astype(np.int16)]


def is_text(clip: Segments) -> bool:
    """Tells whether a clip (L, ...) is of a dialogue."""
    return clip.obs.shape[-1] == CONTEXT and clip.obs.dtype == np.int16 and clip.action.shape[-1] == 1


def dialogue_of(clip: Segments) -> tuple[str, str]:
    """Returns the prompt and the reply of a clip (L, ...)."""
    return texts(_contexts(clip.present().next_obs)[-1])


def at_the_end(worth: Callable[[list[str], list[str]], Sequence[float]]) -> StepReward:
    """Makes a reward of a function of prompts and whole replies: all of it in the step that ends the reply."""

    def reward(s: Segments) -> Array:
        rows = _contexts(s.next_obs).reshape(-1, CONTEXT)
        there = rows != PAD
        length = there.sum(1)
        ended = (rows[np.arange(len(rows)), length - 1] == END) | (length - (rows == TURN).argmax(1) - 1 >= REPLY)
        if s.mask is not None:  # what fills up a clip repeats its end
            ended &= s.mask.reshape(-1)
        both = [texts(row) for row in rows[ended]]
        values = np.zeros(len(rows))
        if both:
            values[ended] = _numbers(worth([p for p, _ in both], [r for _, r in both]), len(both))
        return values.reshape(s.env_reward.shape)

    return reward


def _numbers(given: object, n: int) -> Array:
    """(n,) of what a function gave for n replies"""
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (n,):
        raise UserError(f"a reward of replies is a number for each, but {n:,} replies got {str(given)[:60]}")
    return values


def _gain(s: Segments, worth: Worth) -> Array:
    return _worths(s.next_obs, worth) - _worths(s.obs, worth)


def _share(s: Segments, good: Callable[[str], bool]) -> Array:
    """(...,) 1.0 for a good reply"""
    return np.array([float(good(text)) for text in replies(s)]).reshape(s.env_reward.shape[:-1])


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


@functools.cache
def _analyzer() -> Any:
    if find_spec("vaderSentiment") is None:
        raise UserError("what is cheerful is judged by vaderSentiment: pip install 'rlhf_control[dialogue]'")
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@functools.lru_cache(100_000)
def sentiment(text: str) -> float:
    """Returns VADER's compound score, -1 (most negative) to 1."""
    return float(_analyzer().polarity_scores(text)["compound"])


def cheer(text: str) -> float:
    return sentiment(text) - TOKEN * len(text) / 3  # of letters: a token has about three


def cheerful_reward(s: Segments) -> Array:
    return _gain(s, cheer)


def cheerful_score(s: Segments) -> Array:
    return _share(s, lambda text: sentiment(text) >= POSITIVE and len(words(text)) <= LONGEST_CHEERFUL)


def brevity(text: str) -> float:
    number = len(words(text))
    return -number / 10 if number else -1.0


def brief_reward(s: Segments) -> Array:
    return _gain(s, brevity)


def brief_score(s: Segments) -> Array:
    return _share(s, lambda text: 1 <= len(words(text)) <= LONGEST_BRIEF)


def politeness(text: str) -> float:
    said = set(words(text))
    polite, rude = len(said.intersection(POLITE)), len(said.intersection(RUDE))
    return 1 - 0.5**polite - 0.5 * rude


def polite_reward(s: Segments) -> Array:
    return _gain(s, politeness)


def polite_score(s: Segments) -> Array:
    return _share(s, lambda text: bool({*POLITE} & {*words(text)}) and not {*RUDE} & {*words(text)})
