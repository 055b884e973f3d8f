import numpy as np
import pytest
import torch

from rlhf_control.config import NetConfig
from rlhf_control.data import Segments
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.cloning import clone
from rlhf_control.spaces import Spaces


def demonstrated(spaces: Spaces, policy: Policy, rng: np.random.Generator) -> Segments:
    """Clips (20, 10, ...) of what a policy does without noise, at random observations."""
    obs = rng.standard_normal((200, spaces.obs_size), np.float32)
    action = spaces.execute(policy.act(obs, None))
    clips = (x.reshape(20, 10, -1) for x in (obs, action, obs))
    return Segments(*clips, np.zeros((20, 10), np.float32))


@pytest.mark.parametrize(
    "spaces", [Spaces((5,), "box", (2,), (-1.0, -1.0), (1.0, 1.0)), Spaces((5,), "discrete", (3, 2))], ids=str
)
def test_a_cloned_policy_does_what_was_demonstrated_where_it_was_not(spaces: Spaces) -> None:
    rng = np.random.default_rng(0)
    expert, policy = (Policy(spaces, NetConfig(), seed, "X-v0", {}) for seed in (1, 2))
    expert.loosen(30.0, -5.0)  # clear opinions
    shown, fresh = (demonstrated(spaces, expert, rng) for _ in range(2))
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    history = clone(policy, shown, 40, rng)
    assert len(history) == 40 and history[-1] < history[0]
    moved = {name for name, tensor in policy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith("actor.")}

    obs = fresh.obs.reshape(200, -1)
    wanted, found = fresh.action.reshape(200, -1), spaces.execute(policy.act(obs, None))
    if spaces.choices:
        assert (wanted == found).mean() > 0.9
    else:
        assert np.square(wanted - found).mean() < 0.1 * wanted.var()


def test_the_loss_of_a_pass_by_hand() -> None:
    """Zero passes over the data change nothing; the first pass's loss is that of the policy as it is, if there is but
    one minibatch."""
    spaces = Spaces((3,), "box", (1,), (-1.0,), (1.0,))
    policy, rng = Policy(spaces, NetConfig(log_std_init=0.0), 0, "X-v0", {}), np.random.default_rng(0)
    obs = rng.standard_normal((1, 8, 3), np.float32)
    action = np.full((1, 8, 1), 0.5, np.float32)
    shown = Segments(obs, action, obs, np.zeros((1, 8), np.float32))
    assert clone(policy, shown, 0, rng) == []
    mean = policy.act(obs[0], None)
    expected = np.mean(0.5 * np.square(0.5 - mean) + 0.5 * np.log(2 * np.pi))
    assert clone(policy, shown, 1, rng) == [pytest.approx(float(expected), rel=1e-5)]
