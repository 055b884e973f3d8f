"""Text as tokens and back: the words and punctuation marks of the corpus, and letters for all other words.

Text is read in lower case and in ASCII as far as it can be: accents fall, quotation marks become straight. A piece that
follows a space begins with SPACE, so that pieces put end to end are the text again. Whole words keep replies short, and
no reply is made of pieces that are no words. `vocabulary.txt` has the pieces, one a line: the characters, and then the
words, the commonest first.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources

PAD, TURN, END = 0, 1, 2  # nothing; the prompt is over, the reply begins; the reply is over
MARKS = ("<pad>", "<turn>", "<end>")
SPACE = "_"  # at the head of a piece; text has none
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"-:;()/&%$#@+*="
WORD = re.compile(r" ?[a-z]+(?:'[a-z]+)?| ?\d| ?[^\sa-z\d]")
QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "_": "-"})


class Vocabulary:
    """Knows the pieces and their numbers."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = (*MARKS, *pieces)
        self.number = {piece: i for i, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text. Raises ValueError, in one line, for characters that it does not know."""
        plain = plainly(text)
        if unknown := list(dict.fromkeys(c for c in plain if c not in self.number and not c.isspace())):
            raise ValueError(f"{' '.join(unknown[:5])!r} is outside the vocabulary, which is English text in ASCII")
        known = ([word] if word in self.number else list(word) for word in words_of(text))
        return [self.number[piece] for pieces in known for piece in pieces]

    def decode(self, tokens: Iterable[int]) -> str:
        """Returns the text of tokens, without marks; sentences begin with a capital."""
        words = "".join(self.pieces[token] for token in tokens if token > END).replace(SPACE, " ").strip()
        words = re.sub(r"\bi\b", "I", words)
        return re.sub(r"(^|[.!?] +)([a-z])", lambda found: found[1] + found[2].upper(), words)


def plainly(text: str) -> str:
    """Returns a text in lower case, in ASCII as far as it can be, in one line."""
    folded = unicodedata.normalize("NFKD", text.translate(QUOTES)).lower()
    return " ".join("".join(c for c in folded if not unicodedata.combining(c)).split())


def learn(texts: Iterable[str]) -> list[str]:
    """Returns the pieces for these texts."""
    counts = Counter(word for text in texts for word in words_of(text) if all(c in CHARACTERS + SPACE for c in word))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return [*CHARACTERS, SPACE, *(word for word in words if len(word) > 1)]


def words_of(text: str) -> list[str]:
    """Returns words and punctuation marks of a text, those after a space with SPACE at their head."""
    return [word.replace(" ", SPACE) for word in WORD.findall(f" {plainly(text)}")]


@functools.cache
def vocabulary() -> Vocabulary:
    """Returns the vocabulary that ships."""
    return Vocabulary((resources.files("envs.dialogue") / "vocabulary.txt").read_text("ascii").split("\n")[:-1])
