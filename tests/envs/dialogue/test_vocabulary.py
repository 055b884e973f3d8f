"""Text as tokens and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.dialogue import corpus
from envs.dialogue.vocabulary import CHARACTERS, END, MARKS, PAD, SPACE, TURN, learn, plainly, vocabulary


def test_the_vocabulary_that_ships_is_the_corpus() -> None:
    assert list(vocabulary().pieces[len(MARKS) :]) == learn(text for turn in corpus.turns() for text in turn)


@given(st.text(alphabet=CHARACTERS + " A", max_size=30))
def test_text_comes_back(text: str) -> None:
    tokens = vocabulary().encode(text)
    assert all(END < token < len(vocabulary()) for token in tokens)
    assert vocabulary().decode([PAD, TURN, *tokens, END]).lower() == plainly(text)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        vocabulary().encode(text)
    except ValueError as error:
        assert "outside the vocabulary" in str(error) and "\n" not in str(error)


def test_words_are_one_token_and_others_are_spelt() -> None:
    known = vocabulary()
    assert [known.pieces[t] for t in known.encode("I’m a Computér.")] == ["_i'm", "_a", "_computer", "."]
    assert [known.pieces[t] for t in known.encode("a zyx")] == ["_a", SPACE, *"zyx"]
    assert known.decode(known.encode("yes. i am A COMPUTER! are you?")) == "Yes. I am a computer! Are you?"
    with pytest.raises(ValueError, match=re.escape("'п 😀'")):
        known.encode("п 😀")
