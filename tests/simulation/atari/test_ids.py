import gymnasium
import pytest

from rlhf_control.errors import UserError
from rlhf_control.simulation.atari.ids import is_atari, known_ids, prepared, rom_of
from rlhf_control.simulation.foreign import check_env_id


def test_roms_of_ids() -> None:
    assert rom_of("ALE/SpaceInvaders-v5") == rom_of("ale_py:ALE/SpaceInvaders-v5") == "space_invaders"
    assert is_atari("ALE/Pong-v5") and not is_atari("Pong-v5") and not is_atari("mine:ALE/Pong-v5")
    assert set(known_ids()) == {name for name in gymnasium.registry if name.startswith("ALE/")}  # ale_py is imported


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("ALE/Pogn-v5", "unknown environment 'ALE/Pogn-v5'; did you mean ALE/Pong-v5"),
        ("ale_py:ALE/Pogn-v5", "did you mean ALE/Pong-v5"),
        ("ALE/pong", "did you mean ALE/Pong-v5"),
        ("ALE/space_invaders-v5", "did you mean ALE/SpaceInvaders-v5"),
        ("ALE/Zzzzzz-v5", r"there are \d+, such as ALE/Pong-v5"),
        ("PongNoFrameskip-v4", "write ALE/Pong-v5"),
        ("SpaceInvaders-ram-v0", "write ALE/SpaceInvaders-v5"),
        ("Pong-v4", "write ALE/Pong-v5"),
    ],
)
def test_unknown_ones_and_older_ones_name_what_there_is(env_id: str, words: str) -> None:
    known_ids()
    with pytest.raises(UserError, match=words):
        check_env_id(env_id)


def test_other_ids_stand_for_none() -> None:
    assert prepared("HalfCheetah-v4") == prepared("Ant-v5") == prepared("ale_py:Pong-v4") == ""
