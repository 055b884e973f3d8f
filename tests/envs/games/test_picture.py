import gymnasium
import numpy as np
import pytest

from envs import GAMES
from envs.games.bricks import BALL_X, BALL_Y, BRICKS, LIVES, WALL
from envs.games.orchard import FRUITS, LEFT, ORCHARD, SAFE
from envs.games.picture import HUMAN, draw_game


@pytest.mark.parametrize("env_id", list(GAMES))
def test_a_stored_state_is_drawn_as_the_game_draws_itself(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array", obs="planes")
    env.reset(seed=2)
    pictures, states = [], []
    for t in range(12):
        env.step(t % 3)
        pictures.append(np.asarray(env.render()))
        states.append(env.unwrapped.clone_state().astype(np.float64))  # type: ignore[attr-defined]
    again = [draw_game(GAMES[env_id].game, state) for state in states[::-1]][::-1]
    np.testing.assert_array_equal(again, pictures)
    assert pictures[0].shape == (HUMAN, HUMAN, 3) and (pictures[0] != pictures[11]).any()


@pytest.mark.parametrize(
    ("game", "changes"),
    [(BRICKS, {BALL_X: 900, BALL_Y: 3000, LIVES: 1, WALL: 5}), (ORCHARD, {FRUITS: 0, LEFT: 10, SAFE: 1})],
)
def test_all_that_counts_is_seen(game, changes) -> None:
    state = np.zeros((1, game.words), np.int32)
    game.begin(state)
    state[0, ORCHARD.word("safe") if game is ORCHARD else LIVES] &= 7
    if game is ORCHARD:
        state[0, SAFE] = 0
    plain = draw_game(game, state[0])
    for word, value in changes.items():
        other = state[0].copy()
        other[word] = value
        assert (draw_game(game, other) != plain).any(2).sum() > 20, word
