import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from rlhf_control.config import NetConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.pictures import PICTURE_FEATURES, Sight
from rlhf_control.nets.policy import Policy
from rlhf_control.spaces import Spaces, packing

MIXED = Dict(
    camera=Box(0, 255, (10, 10, 3), np.uint8), arm=Box(-1, 1, (3,), np.float32), words=Box(0, 9, (2,), np.int64)
)


def observed(n: int) -> tuple[Spaces, np.ndarray]:
    MIXED.seed(0)
    space, pack = packing(MIXED)
    return Spaces.of(space, Discrete(3)), np.stack([pack(MIXED.sample()) for _ in range(n)])


def test_every_part_counts_and_gradients_reach_every_weight() -> None:
    spaces, obs = observed(6)
    policy = Policy(spaces, NetConfig((8,)), 0, "X", {})
    policy.observe(obs)
    assert policy.config.encoder == "cnn" and policy.encoder.size == 5 + PICTURE_FEATURES
    distribution, value = policy.distribution_and_value(policy.features(obs))
    (distribution.entropy().sum() + value.sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.parameters())
    np.testing.assert_array_equal(
        policy.obs_norm.mean.numpy()[:3], policy.encoder.numbers(obs)[:, :3].mean(0, np.float64)
    )


def test_a_file_brings_back_every_bit_and_claims_no_more_than_it_has() -> None:
    spaces, obs = observed(4)
    policy = Policy(spaces, NetConfig((8,)), 0, "X", {})
    state = policy.state()
    again = Policy.from_state(state)
    with torch.no_grad():
        assert torch.equal(again.value(again.features(obs)), policy.value(policy.features(obs)))
    camera = next(part for part in state["spaces"]["obs_parts"] if part["name"] == "camera")
    camera["shape"] = [10_000, 10_000, 3]
    with pytest.raises(CorruptFileError, match="not a policy"):
        Policy.from_state(state)


def test_a_network_tells_dots_on_the_left_from_those_on_the_right() -> None:
    pictures = np.zeros((20, 10, 10, 1), np.uint8)
    at = np.tile([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2)
    pictures[np.arange(20), 5, at] = 255
    spaces = Spaces.of(Box(0, 255, (10, 10, 1), np.uint8), Discrete(2))
    policy, right = Policy(spaces, NetConfig((16,)), 0, "X", {}), torch.from_numpy((at > 4).astype(np.int64))
    features, optimizer = policy.features(spaces.flat(pictures)), torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = -policy.distribution(features).log_prob(right[:, None]).mean()
        loss.backward()
        optimizer.step()
    assert (policy.act(spaces.flat(pictures), None)[:, 0] == right.numpy()).all()


def test_flat_reads_pictures_as_numbers_and_cnn_wants_some() -> None:
    spaces, obs = observed(2)
    flat = Policy(spaces, NetConfig((8,), encoder="flat"), 0, "X", {})
    assert flat.encoder.size == 305 and flat.features(obs).shape == (2, 305)
    assert Encoder.size_of(spaces.parts, Sight("flat")) == 305
    with pytest.raises(UserError, match="is for pictures"):
        Policy(Spaces.of(Box(-1, 1, (3,)), Discrete(2)), NetConfig((8,), encoder="cnn"), 0, "X", {})
