"""Options of the learner, its networks and the KL anchor: what cannot be."""

import pytest

from rlhf_control.config import NetConfig, PPOConfig, ReferenceConfig
from rlhf_control.errors import UserError


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: PPOConfig(minibatch_size=1), "minibatch_size"),
        (lambda: PPOConfig(num_envs=1, num_steps=8, minibatch_size=64), "minibatch_size"),
        (lambda: PPOConfig(gamma=1.1), "gamma"),
        (lambda: PPOConfig(lr=0), "lr"),
        (lambda: ReferenceConfig(beta=-1), "beta"),
        (lambda: ReferenceConfig(beta=0, target=0.1), "target"),
        (lambda: PPOConfig(lr=float("inf")), "lr"),
        (lambda: PPOConfig(gamma=float("nan")), "gamma"),
        (lambda: PPOConfig(target_kl=0.0), "target_kl"),
        (lambda: PPOConfig(step_control="kl-penalty", lr_schedule="adaptive"), "choose one"),
        (lambda: NetConfig(hidden=(64, 0)), r"net\.hidden"),
        (lambda: NetConfig(log_std_init=6.0), r"net\.log_std_init"),
    ],
)
def test_impossible_values_are_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make()  # type: ignore[operator]


def test_a_minibatch_may_be_the_whole_batch() -> None:
    assert PPOConfig(num_envs=2, num_steps=8, minibatch_size=16).minibatch_size == 16
