import numpy as np

from rlhf_control.behaviours.ale import (
    BALL_X,
    THEIR_POINTS,
    _points,
    _returned,
    centre_reward,
    centre_score,
    rally_reward,
    rally_score,
)
from rlhf_control.data import Segments
from rlhf_control.simulation.atari.game import FACTS
from rlhf_control.simulation.atari.vector import AtariVectorEnv

BALL_Y, PADDLE_Y = 54, 51


def segments(state: np.ndarray) -> Segments:
    nothing = np.zeros((len(state), 1), np.float32)
    return Segments(nothing, nothing, nothing, nothing[:, 0], state)


def test_the_ram_tells_of_balls_that_are_sent_back_and_of_points() -> None:
    """A paddle that follows the ball sends it back; what then are points, the game's own score says."""
    envs = AtariVectorEnv("ALE/Pong-v5", 1, num_processes=0, repeat_action_probability=0.0)
    envs.reset(seed=0)
    states, scores = [], []
    for _ in range(200):
        ram = envs.facts[0]
        up = ram[BALL_Y] < ram[PADDLE_Y] + 8
        states.append(ram.copy())
        action = 0 if ram[BALL_X] == 0 else 2 if up else 3
        scores.append(envs.step(np.array([action]))[4]["score"][0])
    states.append(envs.facts[0].copy())
    s = segments(np.array(states))
    np.testing.assert_array_equal(_points(s)[1:], np.abs(scores))
    assert _points(s).sum() >= 1
    back = np.flatnonzero(_returned(s))
    x = s.state[:, BALL_X]  # type: ignore[index]
    assert len(back) >= 1 and all(x[i - 2] < x[i - 1] and x[i] > x[i + 1] for i in back)
    np.testing.assert_array_equal(rally_reward(s), _returned(s).astype(float) - _points(s))


def test_the_share_of_long_rallies_by_hand() -> None:
    """Points at steps 100 and 300 of 400: of three rallies, of 100, 200 and 100 steps, the second is long."""
    state = np.zeros((400, FACTS))
    state[100:, 13], state[101:, 128 + 13] = 1, 1
    state[300:, 14], state[301:, 128 + 14] = 1, 1
    assert rally_score(segments(state)) == 199 / 400


def test_the_paddle_rests_near_the_middle_while_the_ball_is_away_by_hand() -> None:
    state = np.zeros((5, FACTS))
    state[:, 58] = [255, 1, 1, 0, 1]  # comes, goes, goes, is none, goes
    state[:, PADDLE_Y] = [120, 120, 136, 105, 38]
    state[4, THEIR_POINTS] = 1  # no point before
    np.testing.assert_allclose(centre_reward(segments(state)), [0, 1, 1 - 16 / 41, 1 - 15 / 41, -1 - 10])
    assert centre_score(segments(state)) == 2 / 4
