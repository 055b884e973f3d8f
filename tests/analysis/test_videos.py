import gc

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from rlhf_control.analysis.videos import _leaves, _speeds, policy_frames, record_video
from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.make import mujoco_model
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.vector import start_envs


def lively(env_id: str, seed: int = 0) -> Policy:
    """An untrained policy that moves."""
    envs = start_envs(env_id, 1, seed=0)
    envs.close()
    policy = Policy(envs.spaces, NetConfig(), seed, env_id, {})
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100)
    return policy


@pytest.mark.parametrize(
    ("env_id", "rate", "steps_a_frame", "size"), [("Hopper-v5", 125, 5, (64, 64)), ("CartPole-v1", 50, 2, (64, 96))]
)
def test_a_whole_episode_is_the_one_that_evaluate_sees(env_id, rate, steps_a_frame, size):
    policy = lively(env_id)
    frames, fps, total = policy_frames(policy, seed=3, width=64, height=64)
    returns, episodes = evaluate(policy, 1, seed=3)
    length = episodes[0].env_reward.shape[0]
    assert total == pytest.approx(returns[0])
    assert frames.shape == (-(-length // steps_a_frame), *size, 3) and frames.dtype == np.uint8
    assert fps == rate / steps_a_frame
    assert (frames[0] != frames[-1]).any()


def test_seconds_cut_and_a_title_is_drawn():
    policy = lively("HalfCheetah-v5")
    plain, fps, _ = policy_frames(policy, seconds=0.5, width=200, height=200)
    titled, _, _ = policy_frames(policy, seconds=0.5, width=200, height=200, title="before")
    assert fps == 20 and len(plain) == len(titled) == 10
    assert titled.shape[1] == 229 and np.array_equal(titled[:, 17:217], plain), "titles cover nothing"


def test_speed_is_a_mean_over_half_a_second():
    x = np.array([0.0, 0.1, 0.2, 0.2, 0.2, 0.6])  # m, at 4 steps a second: over the last 2 steps
    np.testing.assert_allclose(_speeds(x, rate=4), [0, 0.4, 0.4, 0.2, 0, 0.8])


@pytest.mark.parametrize(
    ("env_id", "leaves"),
    [("HalfCheetah-v5", True), ("Ant-v5", True), ("Pusher-v5", False), ("InvertedPendulum-v5", False),
     ("rlhf/ArmGrasp-v0", False)],
)  # fmt: skip
def test_only_what_can_leave_has_a_speed(env_id, leaves):
    assert _leaves(mujoco_model(env_id, {})) == leaves


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_policies_side_by_side(tmp_path):
    one, two = lively("HalfCheetah-v5", 0), lively("HalfCheetah-v5", 1)
    returns = record_video([("before", one), ("after", two)], tmp_path / "v.mp4", seconds=0.4, width=64, height=64)
    shape = imageio.imread(tmp_path / "v.mp4").shape
    gc.collect()  # imageio's reader does not close its pipes
    assert shape == (8, 64 + 30, 136, 3), "with a title above and a line below"
    assert len(returns) == 2 and returns[0] != returns[1]
    record_video([("alone", one)], tmp_path / "v.gif", seconds=0.4, width=64, height=64)
    assert imageio.imread(tmp_path / "v.gif").shape[:3] == (8, 64 + 29, 64)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    cheetah, hopper = lively("HalfCheetah-v5"), lively("Hopper-v5")
    with pytest.raises(UserError, match=r"\.mp4 or a \.gif"):
        record_video([("", cheetah)], tmp_path / "v.avi")
    with pytest.raises(UserError, match="different speeds"):
        record_video([("", cheetah), ("", hopper)], tmp_path / "v.mp4", seconds=0.1, width=64, height=64)
    hopper.env_id = "HalfCheetah-v5"
    with pytest.raises(UserError, match="does not fit"):
        policy_frames(hopper)
    assert not list(tmp_path.iterdir())
