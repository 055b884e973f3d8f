import numpy as np
import pytest

from rlhf_control.simulation.atari.game import FACTS, RAM, AtariGame
from rlhf_control.simulation.atari.preprocessing import Preprocessing
from rlhf_control.simulation.atari.vector import decoded


def test_the_ram_is_kept_as_it_was_one_step_before() -> None:
    game = AtariGame("pong", Preprocessing())
    game.reset(0)
    game.step(0)
    before = game.facts()
    assert before.shape == (FACTS,)
    game.step(2)
    np.testing.assert_array_equal(game.facts()[RAM : 2 * RAM], before[:RAM])
    assert game.facts()[-2] == before[-2] + 4  # frames


def test_pictures_are_ales_own_and_the_same_bytes_again() -> None:
    game, again = (AtariGame("seaquest", Preprocessing()) for _ in range(2))
    plan = np.random.default_rng(0).integers(0, 18, 40).tolist()
    game.reset(0)
    for action in plan[:12]:
        game.step(action)
    first = game.png()
    np.testing.assert_array_equal(decoded(first), game.ale.getScreenRGB())
    np.testing.assert_array_equal(decoded(first), game.screen())
    for action in plan[12:]:  # which learns more colours
        game.step(action)
        game.png()
    state = game.state()
    game.reset(0)
    for action in plan[:12]:
        game.step(action)
    assert game.png() == first
    again.load_state(state)
    assert again.step(0).picture.any()
    with pytest.raises(ValueError, match="a state of seaquest is none of pong"):
        AtariGame("pong", Preprocessing()).load_state(state)
