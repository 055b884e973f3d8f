"""What people said."""

import pytest

from envs.dialogue import corpus


def test_turns_are_whole_and_once() -> None:
    turns = corpus.turns()
    assert len(turns) == len(set(turns)) > 800
    assert ("Hello", "Hi") in turns and ("Hi", "How are you doing?") in turns, "one after the other"
    assert {"Are you sad?", "Not right now, no."} <= {reply for said, reply in turns if said == "You are never sad"}
    assert all(said and reply and "\n" not in said + reply for said, reply in turns)


def test_one_prompt_in_ten_is_held_out() -> None:
    kept, held_out = (corpus.prompts(held_out=h) for h in (False, True))
    assert not {*kept} & {*held_out} and len(kept) > 8 * len(held_out) > 300


def test_who_lacks_the_corpus_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.turns.cache_clear()
    monkeypatch.setattr(corpus, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"rlhf_control\[dialogue\]"):
        corpus.turns()
