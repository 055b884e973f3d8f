"""The games in C against the reference in NumPy, bit for bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.games import compiled
from envs.games.bricks import BRICKS
from envs.games.compiled import Compiled, make_engine
from envs.games.env import spaces_of
from envs.games.game import VIEWS, Array, Game, generators, seeded
from envs.games.orchard import ORCHARD
from envs.games.reference import Reference

GAMES = [BRICKS, ORCHARD]


def started(game: Game, seeds: list[int], **how: Any) -> tuple[Compiled, Reference, Array, Array]:
    """Both engines, and states of each, in which new episodes have begun."""
    engines = [make_engine(game, how.get("limit", 90), how.get("endless", False), fast) for fast in (True, False)]
    assert isinstance(engines[0], Compiled) and isinstance(engines[1], Reference)
    states = [np.zeros((len(seeds), game.words), np.int32) for _ in engines]
    for engine, rows in zip(engines, states, strict=True):
        generators(rows)[:] = seeded(seeds)
        engine.begin(rows, np.ones(len(rows), bool))
    return engines[0], engines[1], states[0], states[1]


def seen(engine: Compiled | Reference, states: Array, view: str) -> Array:
    space, _ = spaces_of(engine.game, view)
    out = np.full((len(states), *space.shape), 77, space.dtype)
    engine.observe(states, view, out)
    return out


def lively(game: Game, n: int, steps: int, seed: int) -> Array:
    """Actions (steps, n) that are held for a while, so that the games go far."""
    rng = np.random.default_rng(seed)
    held = rng.integers(len(game.actions), size=(steps, n))
    for t in range(1, steps):
        keep = rng.random(n) < 0.8
        held[t, keep] = held[t - 1, keep]
    return held


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
@pytest.mark.parametrize("how", [{}, {"endless": True, "limit": 300}, {"limit": 0}], ids=str)
def test_c_is_the_reference(game: Game, how: dict) -> None:
    fast, slow, a, b = started(game, list(range(12)), **how)
    ends = 0
    for t, actions in enumerate(lively(game, 12, 500, 1)):
        last_a, last_b = np.zeros_like(a), np.zeros_like(b)
        results = zip(fast.step(a, actions, last_a), slow.step(b, actions, last_b), strict=True)
        for mine, reference in results:
            assert mine.dtype == reference.dtype
            np.testing.assert_array_equal(mine, reference)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(last_a, last_b)
        ends += last_a.any(1).sum()
        if t % 100 == 0:
            for view in VIEWS:
                np.testing.assert_array_equal(seen(fast, a, view), seen(slow, b, view), view)
    assert ends or (how == {"limit": 0} and game is ORCHARD)


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
@given(seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), action_seed=st.integers(0, 99))
@settings(max_examples=5)
def test_c_is_the_reference_for_any_seeds(game: Game, seeds: list[int], action_seed: int) -> None:
    fast, slow, a, b = started(game, seeds)
    for actions in lively(game, len(seeds), 60, action_seed):
        fast.step(a, actions, None), slow.step(b, actions, None)
    np.testing.assert_array_equal(a, b)
    for view in VIEWS:
        np.testing.assert_array_equal(seen(fast, a, view), seen(slow, b, view), view)


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
@pytest.mark.parametrize("word", [2**31 - 1, -(2**31), -1])
def test_states_that_no_game_reaches_are_looked_at_and_played_without_harm(game: Game, word: int) -> None:
    """Whatever `restore_state` is handed: C must not write beyond its rows."""
    fast, _, a, _ = started(game, [0])
    a[:, :-2] = word
    for view in VIEWS:
        seen(fast, a, view)
    a[:, :-2] = np.clip(a[:, :-2], -(2**20), 2**20)
    fast.step(a, np.array([1]), None)


def test_without_a_compiler_the_reference_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "load", lambda source, **_: None)
    assert isinstance(make_engine(BRICKS, 10, False), Reference)
