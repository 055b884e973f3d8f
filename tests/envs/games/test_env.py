"""The games as Gymnasium's single environments."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import GAMES
from envs.games.env import Bricks, Orchard
from envs.games.game import VIEWS

IDS = list(GAMES)


def walked(env: gymnasium.Env, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        if any(env.step(int(rng.integers(env.action_space.n)))[2:4]):  # type: ignore[attr-defined]
            env.reset()


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("obs", VIEWS)
def test_gymnasium_finds_nothing_to_say(env_id: str, obs: str) -> None:
    env = gymnasium.make(env_id, obs=obs, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    shape = env.observation_space.shape
    assert shape == {"pixels": (84, 84, 4), "planes": (12, 12, 4)}.get(obs, shape)
    assert obs != "state" or (len(shape) == 1 and shape[0] <= 128)
    assert env.unwrapped.get_action_meanings()[0] == "stay"  # type: ignore[attr-defined]
    keys = env.unwrapped.get_keys_to_action()  # type: ignore[attr-defined]
    assert sorted(keys.values()) == list(range(env.action_space.n))  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("obs", VIEWS)
def test_a_clone_goes_on_as_the_original_in_another_environment(env_id: str, obs: str) -> None:
    """Observations, pictures of the past included, rewards, ends, and the episode after."""
    one, two = (gymnasium.make(env_id, obs=obs).unwrapped for _ in range(2))
    one.reset(seed=1)
    walked(one, 40, 2)
    two.reset(seed=5)
    state = one.clone_state()  # type: ignore[attr-defined]
    for given in (state, state.astype(np.float64)):  # as clips have it
        seen = two.restore_state(given)  # type: ignore[attr-defined]
        one.restore_state(state)  # type: ignore[attr-defined]
        rng = np.random.default_rng(3)
        for _ in range(50):
            action = int(rng.integers(3))
            first, second = one.step(action), two.step(action)
            np.testing.assert_array_equal(first[0], second[0])
            assert first[1:4] == second[1:4]
            if first[2] or first[3]:
                np.testing.assert_array_equal(one.reset()[0], two.reset()[0])
    assert seen.shape == one.observation_space.shape


def test_the_same_seed_is_the_same_game_and_neighbours_are_others() -> None:
    env = gymnasium.make("rlhf/Orchard-v0")
    first, again, other = (env.reset(seed=seed)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).sum() > 5
    env.reset(seed=7)
    assert (env.reset()[0] != first).any()  # the next episode


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7"])
def test_seeds_that_are_none_are_refused_in_a_line(seed: object) -> None:
    env = Bricks()
    with pytest.raises(ValueError, match=r"a seed is a whole number from 0 to 2\*\*64 - 1") as caught:
        env.reset(seed=seed)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    env.reset(seed=2**64 - 1)


def test_other_words_for_the_view_are_refused_with_near_ones() -> None:
    with pytest.raises(ValueError, match="did you mean pixels"):
        Bricks(obs="pixel")
    with pytest.raises(ValueError, match="did you mean planes"):
        gymnasium.make_vec("rlhf/Orchard-v0", num_envs=2, obs="plane")
    with pytest.raises(ValueError, match="'rgb_array' alone"):
        Orchard(render_mode="human")


def test_actions_and_states_that_do_not_fit_are_refused() -> None:
    env = Orchard()
    env.reset(seed=0)
    for action in (5, -1, 1.0):
        with pytest.raises(ValueError, match="actions of Orchard are"):
            env.step(action)  # type: ignore[arg-type]
    for state in (
        Bricks().clone_state(),
        np.full(len(env.clone_state()), np.nan),
        np.full(len(env.clone_state()), 0.5),
    ):
        with pytest.raises(ValueError, match="a state of Orchard is"):
            env.restore_state(state)


def test_truncation_is_no_termination() -> None:
    env = gymnasium.make("rlhf/Orchard-v0")
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(240)]
    assert flags == [(False, False)] * 239 + [(False, True)]
    endless = gymnasium.make("rlhf/Bricks-v0", terminate_when_unhealthy=False)
    endless.reset(seed=0)
    flags = [endless.step(1)[2:4] for _ in range(1000)]  # in a corner all balls are missed
    assert flags == [(False, False)] * 999 + [(False, True)]
    lost = gymnasium.make("rlhf/Bricks-v0", max_episode_steps=-1)
    lost.reset(seed=0)
    steps = 1
    while not (flag := lost.step(1)[2:4])[0]:
        assert flag == (False, False)
        steps += 1
    assert flag == (True, False) and steps < 1000
