import numpy as np
import pytest
import torch

from rlhf_control.errors import UserError
from rlhf_control.interop.networks import Networks, activation_named, in_environment_units, policy_of, with_inputs
from rlhf_control.spaces import Spaces

BOX = Spaces((2,), "box", (2,), (-2.0, 0.0), (4.0, 1.0))


def layer(*rows: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.tensor(rows)
    return weight, torch.arange(len(rows)).float()


def test_by_hand() -> None:
    networks = Networks([layer([1.0, 0.0], [0.0, 2.0])], log_std=torch.tensor([0.5, -0.5]))
    policy = policy_of(networks, BOX, "none", {}, "x")
    np.testing.assert_allclose(policy.act(np.float32([[3, 5]]), None), [[3, 11]])
    turned = policy_of(with_inputs(networks, np.array([1, 0]), 0.5), BOX, "none", {}, "x")
    np.testing.assert_allclose(turned.act(np.float32([[10, 6]]), None), [[3, 11]])


def test_normalised_actions_are_told_in_the_environments_units() -> None:
    for log_std, head in (
        (torch.tensor([0.5, -0.5]), layer([1.0, 0.0], [0.0, 2.0])),
        (None, layer([1.0, 0.0], [0.0, 2.0], [0.1, 0.0], [0.0, 0.2])),
    ):
        networks = Networks([head], log_std=log_std)
        before, after = (policy_of(n, BOX, "none", {}, "x") for n in (networks, in_environment_units(networks, BOX)))
        obs = np.float32([[0.2, -0.4], [1.0, 0.3]])
        with torch.no_grad():
            theirs, ours = (each.distribution(each.features(obs)) for each in (before, after))
        action = torch.tensor([[0.3, -0.7], [1.5, 0.1]])
        low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
        mapped = low + (action + 1) * (high - low) / 2
        torch.testing.assert_close(ours.mean, low + (theirs.mean + 1) * (high - low) / 2)
        jacobian = ((high - low) / 2).log().sum()
        torch.testing.assert_close(ours.log_prob(mapped), theirs.log_prob(action) - jacobian)


def test_layers_that_do_not_fit_are_refused() -> None:
    wide = Networks([(torch.ones(2, 3), torch.ones(2))], log_std=torch.zeros(2))
    with pytest.raises(UserError, match=r"x is for 3 inputs and 2 outputs, but none has .*Box\(2,\)"):
        policy_of(wide, BOX, "none", {}, "x")
    broken = Networks([(torch.ones(5, 2), torch.ones(5)), (torch.ones(2, 4), torch.ones(2))], log_std=torch.zeros(2))
    with pytest.raises(UserError, match="do not follow"):
        policy_of(broken, BOX, "none", {}, "x")
    with pytest.raises(UserError, match="1 actions"):
        policy_of(Networks([layer([1.0, 0.0], [0.0, 2.0])], log_std=torch.zeros(1)), BOX, "none", {}, "x")
    with pytest.raises(UserError, match="activation Hardtanh"):
        activation_named("<class 'torch.nn.modules.activation.Hardtanh'>", "x")
