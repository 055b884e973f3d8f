import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.vector import start_envs
from rlhf_control.training.trial import try_out


class Door(gymnasium.Env):
    """Ends after ten pushes in a row, as random actions never push."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-9, 9, (1,)), Box(-1, 1, (1,))
        self.pushes = 0

    def reset(self, **kwargs: object) -> tuple:
        self.pushes = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple:
        self.pushes = self.pushes + 1 if action[0] > 0.9 else 0
        return np.zeros(1, np.float32), 0.0, self.pushes == 10, False, {}


gymnasium.register("Door-v0", Door, max_episode_steps=200)


def pushing(force: float) -> Policy:
    """Always pushes so hard, or nearly."""
    envs = start_envs("Door-v0", 1, seed=0)
    policy = Policy(envs.spaces, NetConfig(hidden=(4,), log_std_init=-3.0), 0, "Door-v0", {})
    policy.actor[-1].bias.data.fill_(force)
    return policy


def test_an_early_end_by_the_policy_alone_is_found() -> None:
    with pytest.raises(UserError, match=r"Door-v0 ended early \(environment \d, step 9\).*--termination"):
        try_out(pushing(2.0), {}, 5, 0, refuse_early=True)
    try_out(pushing(0.0), {}, 5, 0, refuse_early=True)
    try_out(pushing(2.0), {}, 10, 0, refuse_early=False)


def test_clips_longer_than_the_policys_episodes_are_refused() -> None:
    with pytest.raises(UserError, match=r"11 steps, and .* in Door-v0 seldom or never .*at most 10\): .*--clip"):
        try_out(pushing(2.0), {}, 11, 0, refuse_early=False)
    with pytest.raises(UserError, match="at most 200"):  # the time limit's
        try_out(pushing(0.0), {}, 201, 0, refuse_early=True)
    with pytest.raises(UserError, match="seldom"):  # there is one in 200 steps
        try_out(pushing(0.0), {}, 150, 0, steps=100, refuse_early=False)


def test_fewer_clips_than_the_first_questions_need_are_refused() -> None:
    """Episodes of 10 steps give a clip of 8 each: 100 in 1,000 steps, and as many may be asked about."""
    try_out(pushing(2.0), {}, 8, 0, steps=1000, clips=90, refuse_early=False)
    with pytest.raises(UserError, match=r"of the 150 clips that the first questions need, 100 are to be expected"):
        try_out(pushing(2.0), {}, 8, 0, steps=1000, clips=150, refuse_early=False)
    with pytest.raises(UserError) as told:  # to be shorter than they are, also where they are short beside the longest
        try_out(pushing(2.0), {}, 4, 0, steps=100, clips=40, refuse_early=False)
    given = float(str(told.value).split("--clip-seconds ")[1].split(",")[0])
    assert given == pytest.approx(2 * start_envs("Door-v0", 1, seed=0).step_seconds, rel=0.05)
