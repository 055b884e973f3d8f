from dataclasses import replace

import pytest

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.training.requests import refuse_unknown

CONFIG = FinetuneConfig("halfcheetah")


def test_what_there_is_passes() -> None:
    refuse_unknown(CONFIG, "")
    refuse_unknown(replace(CONFIG, oracle="coin-flip", score="jump"), "")
    refuse_unknown(PretrainConfig("CartPole-v1"), "")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(CONFIG, oracle="jmp"), "'jmp'; did you mean jump"),
        (replace(CONFIG, score="jmp"), "'jmp'; did you mean jump"),
        (replace(CONFIG, queries="unifrom"), "'unifrom'; did you mean uniform"),
        (replace(CONFIG, policy="halfcheeta"), "no policy at halfcheeta"),
        (replace(CONFIG, behaviours="mine.py"), "no file mine.py"),
        (PretrainConfig("Hoper-v5"), "'Hoper-v5'; did you mean Hopper-v5"),
    ],
)
def test_what_there_is_not_is_named(config: FinetuneConfig | PretrainConfig, words: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*{words}"):
        refuse_unknown(config, "here")
