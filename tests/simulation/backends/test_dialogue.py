"""What is the dialogue backend's alone; the rest is in test_protocol."""

import pytest

from rlhf_control.errors import UserError
from rlhf_control.simulation.make import make_backend


def test_states_say_where_the_reply_begins() -> None:
    backend = make_backend("rlhf/Dialogue-v0", 2, 0, "auto", {"prompts": "Hello"})
    states = backend.states()
    assert states is not None and states.tolist() == [[2.0], [2.0]]
    with pytest.raises(UserError, match="text"):
        backend.picture(0)


@pytest.mark.parametrize(
    ("env_id", "env", "said"),
    [
        ("CartPole-v1", {}, "no dialogue of ours"),
        ("rlhf/Dialogue-v0", {"prompts": " "}, "a prompt is empty"),
        ("rlhf/Dialogue-v0", {"share": 0}, "share is 0"),
        ("rlhf/Dialogue-v0", {"promts": "Hello"}, "promts"),
    ],
)
def test_what_cannot_be_made_is_one_line(env_id: str, env: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        make_backend(env_id, 2, 0, "dialogue", env)
    assert "\n" not in str(caught.value)
