"""Contexts that are read together are read as each by itself, now and by what is remembered."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_control.config import NetConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.policy import Policy, together
from rlhf_control.nets.transformer import Memory, TokenEncoder, dialogues, reading
from rlhf_control.spaces import Part, Spaces

TOKENS, CONTEXT = 7, 6
PARTS = (Part("", (CONTEXT,), "int16", 0, CONTEXT),)


def encoder(seed: int = 0) -> TokenEncoder:
    generator = torch.Generator().manual_seed(seed)
    made = TokenEncoder(PARTS, TOKENS, generator, width=8, layers=2, heads=2)
    for parameter in made.parameters():  # so that attention says something
        torch.nn.init.normal_(parameter, 0, 0.5, generator=generator)
    return made


def policy(**net: Any) -> Policy:
    spaces = Spaces((CONTEXT,), "discrete", (TOKENS,), obs_dtype="int16", tokens=TOKENS)
    return Policy(spaces, NetConfig(**{"hidden": (), "width": 8, "heads": 2, **net}), 0, "rlhf/Dialogue-v0", {})


def contexts(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, O) of few tokens, so that some begin with others."""
    rows = rng.integers(1, 3, size=(n, CONTEXT)).astype(np.int16)
    return np.where(np.arange(CONTEXT) < rng.integers(1, CONTEXT + 1, size=(n, 1)), rows, 0).astype(np.int16)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_each_context_is_read_at_its_place_in_a_sequence(seed: int, n: int) -> None:
    rows = contexts(np.random.default_rng(seed), n)
    sequences, (number, place) = reading(torch.from_numpy(rows))
    for row, sequence, at in zip(rows, sequences[number], place, strict=True):
        np.testing.assert_array_equal(np.where(np.arange(CONTEXT) <= at, sequence, 0), row)
    begun = [(a[b != 0] == b[b != 0]).all() for i, a in enumerate(sequences) for j, b in enumerate(sequences) if i != j]
    assert not any(begun), "none of them is the beginning of another"
    np.testing.assert_array_equal(dialogues(torch.from_numpy(rows)), number)


def test_together_is_one_by_one() -> None:
    made, rows = encoder(), torch.from_numpy(contexts(np.random.default_rng(0), 200))
    alone = torch.cat([made(row[None]) for row in rows])
    torch.testing.assert_close(made(rows.reshape(4, 50, -1)).reshape(200, -1), alone)
    torch.testing.assert_close(made.without_gradients(rows), alone)
    assert alone.std(0).min() > 0.02, "or nothing is compared"


def test_no_token_hangs_on_a_later_one() -> None:
    made = encoder()
    rows = torch.tensor([[1, 2, 3, 0, 0, 0], [1, 2, 3, 4, 5, 6]], dtype=torch.int16)
    torch.testing.assert_close(made.read(rows.numpy()[:1])[0][0, :3], made.read(rows.numpy()[1:])[0][0, :3])


def test_what_is_remembered_changes_nothing() -> None:
    """Contexts that grow, begin anew, come back, and swap places."""
    made, rng = encoder(), np.random.default_rng(1)
    memory, rows = Memory(made), contexts(rng, 5)
    for _ in range(40):
        torch.testing.assert_close(memory.read(rows), made.without_gradients(torch.from_numpy(rows)))
        length = (rows != 0).sum(1)
        grows = (rng.random(5) < 0.7) & (length < CONTEXT)
        rows = np.where(grows[:, None], rows, contexts(rng, 5)) if rng.random() < 0.8 else rng.permutation(rows)
        for i in np.flatnonzero(grows & ((rows != 0).sum(1) < CONTEXT)):
            rows[i, (rows[i] != 0).sum()] = rng.integers(1, TOKENS)


def test_an_update_reads_dialogues_whole_and_acts_as_one_that_does_not() -> None:
    made = policy()
    obs = contexts(np.random.default_rng(2), 30)
    act = made.acting()
    np.testing.assert_array_equal(
        act(obs, None), made.head(made.outputs(made.features(obs))).logits.argmax(-1)[:, None]
    )
    groups = together(made, made.features(obs))
    assert groups is not None and len(set(groups.tolist())) < 30


def test_a_policy_comes_back_from_its_file_and_a_false_one_does_not(tmp_path: Any) -> None:
    made = policy(separate_encoders=True)
    again = Policy.from_state(made.state())
    assert again.acts_as(made) and again.spaces.tokens == TOKENS
    state = made.state()
    for name, value in {"width": 16, "layers": 10**9, "heads": 3}.items():
        with pytest.raises(CorruptFileError):
            Policy.from_state({**state, "net": {**state["net"], name: value}})
    with pytest.raises(UserError, match="heads"):
        NetConfig(width=10, heads=4)
    with pytest.raises(UserError, match="for tokens"):
        Policy(Spaces((3,), "box", (1,), (-1.0,), (1.0,)), NetConfig(encoder="transformer"), 0, "X", {})
