import gymnasium
import pytest

from rlhf_control.errors import UserError
from rlhf_control.interop.environments import environment


def test_an_environment_has_its_spaces_as_we_and_as_gymnasium_have_them() -> None:
    made = environment("Match-v0", {"kind": "multi-binary"})
    assert made.spaces.choices == (2,) * 4 and isinstance(made.action, gymnasium.spaces.MultiBinary)
    with pytest.raises(UserError, match="did you mean Pendulum-v1"):
        environment("Pendulumm-v1", {})
