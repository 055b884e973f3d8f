"""The games side by side: what each is does not depend on how many there are, nor on who steps them."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import GAMES, GameVectorEnv
from envs.games.game import VIEWS, Array

IDS = list(GAMES)


def actions_of(env_id: str, steps: int, n: int, seed: int = 0) -> Array:
    choices = GAMES[env_id](1).single_action_space.n  # type: ignore[attr-defined]
    return np.random.default_rng(seed).integers(choices, size=(steps, n))


def trail(envs: GameVectorEnv, actions: Array, seed: int) -> dict[str, Array]:
    """All that comes of it, (steps, n, ...)."""
    first, _ = envs.reset(seed=seed)
    steps: list[Any] = []
    for row in actions:
        obs, reward, terminated, truncated, info = envs.step(row)
        last = obs.copy()
        for i in np.flatnonzero(info.get("_final_obs", [])):
            last[i] = info["final_obs"][i]
        steps.append((obs, reward, terminated, truncated, last, envs.states))
    names = ("obs", "reward", "terminated", "truncated", "last", "states")
    return {name: np.stack(column) for name, column in zip(names, zip(*steps, strict=True), strict=True)} | {
        "first": first[None]
    }


@pytest.mark.parametrize("env_id", IDS)
@given(
    view=st.sampled_from(VIEWS), n=st.integers(1, 7), threads=st.integers(2, 5), seed=st.integers(0, 2**40),
    compiled=st.booleans(),
)  # fmt: skip
@settings(max_examples=8)
def test_any_number_of_games_and_threads_gives_the_same_bits(
    env_id: str, view: str, n: int, threads: int, seed: int, compiled: bool
) -> None:
    actions = actions_of(env_id, 30, n)
    make = GAMES[env_id]
    whole = trail(make(n, obs=view, max_episode_steps=25), actions, seed)
    shared = make(n, obs=view, max_episode_steps=25, num_threads=threads, compiled=compiled)
    again = trail(shared, actions, seed)
    shared.close()
    alone = trail(make(1, obs=view, max_episode_steps=25), actions[:, -1:], seed + n - 1)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, again[name], name)
        np.testing.assert_array_equal(values[:, -1:], alone[name], name)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("view", VIEWS)
def test_many_are_as_many_single_ones(env_id: str, view: str) -> None:
    """True last observations at ends, and flags kept apart."""
    mode = AutoresetMode.SAME_STEP
    makers = [lambda: gymnasium.make(env_id, obs=view, max_episode_steps=40)] * 3
    singles = SyncVectorEnv(makers, autoreset_mode=mode)
    envs = gymnasium.make_vec(env_id, num_envs=3, obs=view, max_episode_steps=40)
    assert isinstance(envs, GameVectorEnv) and envs.metadata["autoreset_mode"] == mode
    assert envs.single_observation_space == singles.single_observation_space
    np.testing.assert_array_equal(envs.reset(seed=4)[0], singles.reset(seed=4)[0])
    ends = np.zeros(2, int)
    for actions in actions_of(env_id, 130, 3, 1):
        mine, theirs = envs.step(actions), singles.step(actions)
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        ends += mine[2].sum(), mine[3].sum()
        for i in np.flatnonzero(mine[2] | mine[3]):
            assert mine[4]["_final_obs"][i]
            np.testing.assert_array_equal(mine[4]["final_obs"][i], theirs[4]["final_obs"][i])
            assert (mine[4]["final_obs"][i] != mine[0][i]).any()
    assert ends[1] and bool(ends[0]) == (env_id == "rlhf/Bricks-v0")


def test_a_mask_resets_some_and_leaves_the_others() -> None:
    envs = GAMES["rlhf/Bricks-v0"](3, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=5)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False, True])})
    first, _ = envs.reset(seed=1)
    for _ in range(6):
        obs, _, _, truncated, info = envs.step(np.zeros(3, int))
    assert truncated.all() and not info  # they go on as they are
    mask = np.array([False, True, False])
    seen, _ = envs.reset(seed=[None, 2, None], options={"reset_mask": mask})
    np.testing.assert_array_equal(seen[~mask], obs[~mask])
    np.testing.assert_array_equal(seen[1], first[1])  # whose seed was 1 + 1
    assert envs.step(np.zeros(3, int))[3].tolist() == [True, False, True]
    assert GAMES["rlhf/Bricks-v0"](1).metadata["autoreset_mode"] == AutoresetMode.SAME_STEP  # each has its own
    assert envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    for wrong in (np.zeros(3, bool), np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match="reset_mask must be"):
            envs.reset(options={"reset_mask": wrong})


def test_states_are_copies_and_bring_games_back() -> None:
    envs = GAMES["rlhf/Orchard-v0"](4, obs="pixels")
    envs.reset(seed=0)
    for actions in actions_of("rlhf/Orchard-v0", 30, 4):
        obs = envs.step(actions)[0]
    there = envs.states
    onward = [envs.step(actions)[0] for actions in actions_of("rlhf/Orchard-v0", 9, 4, 2)]
    other = GAMES["rlhf/Orchard-v0"](4, obs="pixels")
    np.testing.assert_array_equal(other.restore_states(there), obs)
    for actions, seen in zip(actions_of("rlhf/Orchard-v0", 9, 4, 2), onward, strict=True):
        np.testing.assert_array_equal(other.step(actions)[0], seen)
    other.restore_states(there, np.array([True, False, False, False]))
    np.testing.assert_array_equal(other.states[0], there[0])
    np.testing.assert_array_equal(other.states[1:], envs.states[1:])
    with pytest.raises(ValueError, match="1 states for 4 games"):
        other.restore_states(there[:1])


def test_observations_are_the_callers_own() -> None:
    envs = GAMES["rlhf/Bricks-v0"](2, obs="planes")
    envs.reset(seed=0)
    seen = envs.step(np.ones(2, int))[0]
    kept = seen.copy()
    envs.step(np.ones(2, int))
    np.testing.assert_array_equal(seen, kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_envs": 0}, "at least 1"),
        ({"num_threads": 0}, "at least 1"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"autoreset_mode": "NextStep"}, "SAME_STEP or DISABLED"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_what_cannot_be_made(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GAMES["rlhf/Orchard-v0"](**{"num_envs": 2, **options})


def test_what_cannot_be_stepped_or_seeded() -> None:
    envs = GAMES["rlhf/Bricks-v0"](2, render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros(2, int))
    for seed in (-1, 2**64 - 1, 2**70):  # the second game's would be 2**64
        with pytest.raises(ValueError, match="a seed is a whole number"):
            envs.reset(seed=seed)
    with pytest.raises(ValueError, match="3 seeds for 2 games"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=0)
    for actions in (np.array([0, 3]), np.array([0]), np.zeros(2)):
        with pytest.raises(ValueError, match="actions of Bricks"):
            envs.step(actions)
    assert [picture.shape for picture in envs.render() or ()] == [(504, 504, 3)] * 2
