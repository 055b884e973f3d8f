"""What is written against a protocol works with each of its implementations: they have its members, called alike."""

import inspect
from typing import Literal

import numpy as np
import pytest

from rlhf_control.config import PPOConfig
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.compiled import CompiledUpdate
from rlhf_control.rl.ppo import PPO, AutogradUpdate
from rlhf_control.rl.protocol import Learner, Update
from tests.conftest import random_rollout


@pytest.mark.parametrize(
    ("protocol", "implementation"), [(Update, CompiledUpdate), (Update, AutogradUpdate), (Learner, PPO)]
)
def test_members_are_called_alike(protocol: type, implementation: type) -> None:
    methods = {name: member for name, member in vars(protocol).items() if name[0] != "_" and inspect.isfunction(member)}
    assert {"state", "load_state", "acting"} <= methods.keys()
    for name, method in methods.items():
        ours, theirs = (inspect.signature(each).parameters for each in (getattr(implementation, name), method))
        assert ours == theirs, name


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
def test_a_learner_goes_back_to_its_state(cheetah_policy: Policy, gradients: Literal["compiled", "autograd"]) -> None:
    """As the guard needs it, by nothing but the protocol."""

    def goes_back(learner: Learner) -> None:
        rollout = random_rollout(np.random.default_rng(0), T=32, N=2)
        before, first = learner.state(), learner.distribution(rollout.obs)
        learner.update(rollout, np.random.default_rng(1), 0.0)
        learner.fit_value(rollout, 1, np.random.default_rng(2))
        assert learner.distribution(rollout.obs).kl(first).min() > 0
        learner.load_state(before)
        assert learner.distribution(rollout.obs).kl(first).abs().max() < 1e-9

    goes_back(PPO(cheetah_policy, PPOConfig(gradients=gradients, minibatch_size=16, epochs=1)))
