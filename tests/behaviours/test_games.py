"""Rewards and scores of the games' styles, on episodes that are played by rules of thumb."""

from collections.abc import Callable

import numpy as np
import pytest

from envs import GAMES
from envs.games.bricks import BALL_X, PADDLE, VX
from envs.games.bricks import WIDTH as PADDLE_WIDTH
from envs.games.game import UNIT
from envs.games.orchard import BEES, FRUITS, ORCHARD, PLAYER_X, PLAYER_Y, TREE_X, TREE_Y
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.games import BRICKS_ID, ORCHARD_ID
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError

NAMES = [name for name, behaviour in BEHAVIOURS.items() if behaviour.env_id in GAMES]
Player = Callable[[Array, int], int]  # state (S,), step -> action


def episodes(env_id: str, player: Player, n: int = 6, steps: int = 239) -> Segments:
    """(n, steps, ...)"""
    options = {"terminate_when_unhealthy": False} if env_id == BRICKS_ID else {}
    envs = GAMES[env_id](n, **options)
    obs, _ = envs.reset(seed=0)
    columns = []
    for t in range(steps):
        states = envs.states.astype(np.float64)
        actions = np.array([player(state.astype(int), t) for state in states])
        next_obs, reward, *_ = envs.step(actions)
        columns.append((obs, np.eye(5, dtype=np.float32)[actions], next_obs, reward.astype(np.float32), states))
        obs = next_obs
    return Segments(*(np.stack(column, 1) for column in zip(*columns, strict=True)))


def towards(state: Array, x: float, y: float) -> int:
    across, down = x - state[PLAYER_X], y - state[PLAYER_Y]
    if abs(across) > 120:
        return 4 if across > 0 else 3
    return (2 if down > 0 else 1) if abs(down) > 120 else 0


def fruits(state: Array) -> Array:
    return np.flatnonzero(state[FRUITS] >> np.arange(16) & 1)


def row_by_row(state: Array, _: int) -> int:
    left = fruits(state)
    left = left[left // 4 == left[0] // 4] if len(left) else left
    if not len(left):
        return 0
    tree = left[np.abs(TREE_X[left] - state[PLAYER_X]).argmin()]
    return towards(state, TREE_X[tree], TREE_Y[tree])


def column_by_column(state: Array, _: int) -> int:
    left = fruits(state)
    left = left[left % 4 == (left % 4).min()] if len(left) else left
    if not len(left):
        return 0
    tree = left[np.abs(TREE_Y[left] - state[PLAYER_Y]).argmin()]
    return towards(state, TREE_X[tree], TREE_Y[tree])


def evenly(state: Array, t: int) -> int:
    return row_by_row(state, t) if len(fruits(state)) > 12 * (1 - t / 240) else 0


def restless(state: Array, t: int) -> int:
    return row_by_row(state, t) or 1 + t % 4


def after_a_bee(state: Array, t: int) -> int:
    if len(fruits(state)) > 4:
        return row_by_row(state, t)
    return towards(state, state[BEES] - 7 * UNIT, state[BEES + 1])


def catching(aim: float) -> Player:
    """A paddle that meets the ball so far to the right of its middle (-1 to 1)."""

    def play(state: Array, _: int) -> int:
        off = state[BALL_X] + 96 - state[PADDLE] - PADDLE_WIDTH / 2 - aim * PADDLE_WIDTH / 2
        return 0 if abs(off) < 240 else 2 if off > 0 else 1

    return play


def judged(name: str, clips: Segments) -> tuple[float, float]:
    """Mean reward of a step and mean score."""
    behaviour = BEHAVIOURS[name]
    reward, score = behaviour.reward(clips), behaviour.score(clips)
    assert reward.shape == clips.env_reward.shape and score.shape == clips.env_reward.shape[:-1]
    return float(reward.mean()), float(score.mean())


@pytest.fixture(scope="module")
def orchard() -> dict[str, Segments]:
    players = (row_by_row, column_by_column, evenly, after_a_bee, restless)
    return {player.__name__: episodes(ORCHARD_ID, player) for player in players}


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("hurry", "row_by_row", "evenly"),
        ("savour", "evenly", "row_by_row"),
        ("tidy", "row_by_row", "column_by_column"),
        ("calm", "row_by_row", "restless"),
        ("daring", "after_a_bee", "row_by_row"),
        ("wary", "row_by_row", "after_a_bee"),
    ],
)
def test_reward_and_score_tell_the_styles_of_orchard_apart(
    name: str, better: str, worse: str, orchard: dict[str, Segments]
) -> None:
    (reward, score), (less, lower) = judged(name, orchard[better]), judged(name, orchard[worse])
    assert reward > less and score > lower
    idle = episodes(ORCHARD_ID, lambda *_: 0, 3)
    assert judged(name, idle)[1] < min(score, 0.3)


def test_the_score_is_the_same_whatever_the_style(orchard: dict[str, Segments]) -> None:
    """All fruits are had row by row, column by column, at once or at an even pace."""
    for name in ("row_by_row", "column_by_column", "evenly"):
        picked = 12 - np.array([len(fruits(s)) for s in orchard[name].state[:, -1].astype(int)])  # type: ignore[index]
        assert picked.min() >= 11, name


def test_what_the_last_step_did_is_read_off_the_state(orchard: dict[str, Segments]) -> None:
    """Fruits and stings are those of the game's own reward: less than half of a calm player's comes from resting."""
    for clips in (*orchard.values(), episodes(ORCHARD_ID, lambda *_: 0, 8)):
        found = np.round(BEHAVIOURS["calm"].reward(clips))
        np.testing.assert_array_equal(found[:, 1:], clips.env_reward[:, :-1])
        assert not found[:, 0].any() and (clips.env_reward > -1).any()


def test_tidiness_is_counted_by_picks(orchard: dict[str, Segments]) -> None:
    assert judged("tidy", orchard["row_by_row"])[1] > 0.9 and judged("tidy", orchard["column_by_column"])[1] < 0.7


@pytest.mark.parametrize("name", ["home", "steep"])
def test_reward_and_score_tell_the_styles_of_bricks_apart(name: str) -> None:
    steep, wide = (episodes(BRICKS_ID, catching(aim), 4, 300) for aim in (0.0, 0.9))
    idle, away = (episodes(BRICKS_ID, lambda *_, action=action: action, 4, 300) for action in (0, 1))
    better, worse = (steep, wide) if name == "steep" else (idle, away)
    assert judged(name, better)[0] > judged(name, worse)[0] and judged(name, better)[1] > judged(name, worse)[1]
    assert judged(name, away)[1] < 0.1
    assert steep.state is not None and np.abs(steep.state[..., VX]).mean() < 80


@pytest.mark.parametrize("name", NAMES)
def test_states_of_something_else_are_refused(name: str) -> None:
    nothing = np.zeros((2, 3, 1), np.float32)
    for state in (None, np.zeros((2, 3, 7))):
        clips = Segments(nothing, nothing, nothing, nothing[..., 0], state)
        for function in (BEHAVIOURS[name].reward, BEHAVIOURS[name].score):
            with pytest.raises(UserError, match="reads simulator states, of"):
                function(clips)
    assert len(ORCHARD.drawn) == 11
