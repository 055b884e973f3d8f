import copy
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from rlhf_control.config import NetConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.encoders import ACTIVATIONS, RunningNorm, mlp
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.runs.files import save_state
from rlhf_control.spaces import Spaces, packing


def constant_policy(spaces: Spaces, out: list[float], log_std: float = 0.0) -> Policy:
    """Whose actor answers `out` whatever it sees."""
    policy = Policy(spaces, NetConfig((4,), log_std), 0, "none", {})
    last = policy.actor[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(out))
    return policy


def test_samples_follow_the_distribution() -> None:
    rng, obs = np.random.default_rng(0), np.zeros((20_000, 2), np.float32)
    gaussian = constant_policy(Spaces((2,), "box", (1,), (-1.0,), (1.0,)), [3.0], math.log(0.5))
    sample = gaussian.act(obs, rng)
    assert sample.dtype == np.float32 and sample.shape == (20_000, 1)
    assert sample.mean() == pytest.approx(3, abs=0.02) and sample.std() == pytest.approx(0.5, abs=0.02)
    assert (gaussian.act(obs, None) == 3).all()
    choices = constant_policy(Spaces((2,), "discrete", (2, 3)), [0.0, math.log(3.0), 0.0, math.log(2.0), 0.0])
    picks = choices.act(obs, rng)
    assert picks.dtype == np.int64 and picks.shape == (20_000, 2)
    assert picks[:, 0].mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(np.bincount(picks[:, 1]) / 20_000, [0.25, 0.5, 0.25], atol=0.02)
    assert abs(np.corrcoef(picks.T)[0, 1]) < 0.02
    assert (choices.act(obs, None) == [1, 1]).all()


def test_acting_in_numpy_is_the_torch_network() -> None:
    policy = Policy(Spaces((3,), "box", (2,), (-1.0,) * 2, (1.0,) * 2), NetConfig(), 0, "none", {})
    obs = np.random.default_rng(0).normal(5, 3, (50, 3)).astype(np.float32)
    for _ in range(2):  # before and after there are statistics
        with torch.no_grad():
            mean = policy.distribution(policy.features(obs)).mean
        np.testing.assert_allclose(policy.act(obs, None), mean.numpy(), atol=1e-6)
        policy.obs_norm.update(obs[:20])


def test_running_norm_equals_the_statistics_of_all_data() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(5, 3, size=(n, 2, 4)).astype(np.float32) for n in (3, 50, 1)]
    norm = RunningNorm(4)
    x = torch.randn(7, 4)
    assert norm(x) is x  # the identity before any data
    for part in parts:
        norm.update(part)
    rows = np.concatenate([p.reshape(-1, 4) for p in parts]).astype(np.float64)
    np.testing.assert_allclose(norm.mean.numpy(), rows.mean(0))
    np.testing.assert_allclose(norm.var.numpy(), rows.var(0))
    out = norm(torch.from_numpy(rows.astype(np.float32)))
    np.testing.assert_allclose(out.numpy(), (rows - rows.mean(0)) / rows.std(0), atol=1e-5)
    assert norm(torch.full((1, 4), 1e6)).max() == 10


def test_initial_weights_are_orthogonal_with_the_gains_of_sb3() -> None:
    net = mlp([17, 64, 64, 6], 0.01, torch.Generator().manual_seed(0))
    for layer, gain in zip([net[0], net[2], net[4]], [math.sqrt(2), math.sqrt(2), 0.01], strict=True):
        w = layer.weight.detach()
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram)), atol=1e-5, rtol=0)
        assert (layer.bias == 0).all()


def test_making_a_policy_leaves_the_global_generator_alone(cheetah_policy: Policy) -> None:
    before = torch.random.get_rng_state()
    Policy(cheetah_policy.spaces, NetConfig(), 0, "HalfCheetah-v5", {})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_same_seed_same_weights(cheetah_policy: Policy) -> None:
    make = [Policy(cheetah_policy.spaces, NetConfig(), seed, "HalfCheetah-v5", {}) for seed in (0, 0, 1)]
    assert torch.equal(make[0].actor[0].weight, make[1].actor[0].weight)
    assert not torch.equal(make[0].actor[0].weight, make[2].actor[0].weight)


def test_executed_actions_lie_within_double_precision_bounds() -> None:
    space = Box(np.array([-0.1, -0.3]), np.array([0.7, 1e-9]), dtype=np.float64)
    spaces = Spaces.of(Box(-1, 1, (2,)), space)
    for action in ([-9, -9], [9, 9]):
        executed = spaces.execute(np.array([action], np.float32))[0]
        assert space.contains(executed.astype(np.float64))
        np.testing.assert_allclose(executed, space.low if action[0] < 0 else space.high, rtol=1e-6)


def test_spaces() -> None:
    box = Spaces.of(Box(-1, 1, (2, 3)), Box(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), dtype=np.float64))
    assert box.obs_size == 6 and box.action_size == 2
    np.testing.assert_array_equal(box.execute(np.array([[-9, -9], [9, 0.5]], np.float32)), [[-2, 0], [2, 0.5]])
    discrete = Spaces.of(Box(-1, 1, (2,)), Discrete(3))
    np.testing.assert_array_equal(discrete.execute(np.array([[2], [0]])), [[0, 0, 1], [1, 0, 0]])
    several = Spaces.of(Box(-1, 1, (2,)), MultiDiscrete([3, 2]))
    assert several.action_size == 5
    np.testing.assert_array_equal(several.execute(np.array([[2, 0], [0, 1]])), [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]])
    assert Spaces.of(Box(-1, 1, (2,)), MultiBinary((2, 2))).choices == (2, 2, 2, 2)
    for observation, action in [
        (Dict({"a": Box(0, 1)}), Discrete(2)),
        (Box(0, 1, (2,)), gymnasium.spaces.Text(3)),
        (Box(0, 1, (2,)), Dict({"a": Box(0, 1)})),
    ]:
        with pytest.raises(UserError, match="not supported"):
            Spaces.of(observation, action)


def test_whole_numbers_in_a_box_and_empty_observations_are_refused() -> None:
    with pytest.raises(UserError, match=r"action space Box\(0, 5, \(2,\), int32\) .* MultiDiscrete"):
        Spaces.of(Box(-1, 1, (2,)), Box(0, 5, (2,), np.int32))
    with pytest.raises(UserError, match=r"observation space Box\(.*\(0,\), float32\) .* it is empty"):
        Spaces.of(Box(-1, 1, (0,)), Discrete(2))
    assert Spaces.of(Box(-1, 1, ()), Box(-1, 1, ())).obs_size == 1


def test_a_policy_file_is_whole(tmp_path: Path, cheetah_policy: Policy) -> None:
    cheetah_policy.save(tmp_path / "p.npz", note="n")
    again = load_policy(tmp_path / "p.npz")
    obs = np.random.default_rng(0).normal(size=(5, 17)).astype(np.float32)
    np.testing.assert_array_equal(again.act(obs, None), cheetah_policy.act(obs, None))
    assert again.spaces == cheetah_policy.spaces and again.config == cheetah_policy.config
    save_state(tmp_path / "other.npz", {"kind": "something"})
    with pytest.raises(CorruptFileError, match="does not hold a policy"):
        load_policy(tmp_path / "other.npz")


def test_a_file_cannot_have_a_module_imported(tmp_path: Path, cheetah_policy: Policy) -> None:
    state = cheetah_policy.state()
    save_state(tmp_path / "evil.npz", {**state, "env_id": "evil:Thing-v0"})
    with pytest.raises(UserError, match="would import evil"):
        load_policy(tmp_path / "evil.npz")
    assert load_policy(tmp_path / "evil.npz", env_id="evil:Thing-v0").env_id == "evil:Thing-v0"


@pytest.mark.parametrize("damage", [{"net": None}, {"spaces": {}}, {"parameters": {}}, {"env": 5}])
def test_a_policy_of_the_wrong_shape_is_refused(tmp_path: Path, cheetah_policy: Policy, damage: dict) -> None:
    save_state(tmp_path / "p.npz", {**cheetah_policy.state(), **damage})
    with pytest.raises(CorruptFileError, match="not a policy of this version"):
        load_policy(tmp_path / "p.npz")


def test_a_frozen_copy_keeps_its_own_normaliser(cheetah_policy: Policy) -> None:
    obs = np.ones((3, 17), np.float32)
    frozen = cheetah_policy.frozen()
    before = frozen.act(obs, None).copy()
    cheetah_policy.obs_norm.update(np.full((500, 17), 9.0))
    with torch.no_grad():
        cheetah_policy.actor[0].weight.mul_(2)
    np.testing.assert_array_equal(frozen.act(obs, None), before)
    assert not np.array_equal(cheetah_policy.act(obs, None), before)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_loosen(cheetah_policy: Policy) -> None:
    obs = np.random.default_rng(0).normal(size=(5, 17)).astype(np.float32)
    tight = copy.deepcopy(cheetah_policy)
    with torch.no_grad():
        tight.log_std.fill_(-3)
    mean = tight.act(obs, None)
    tight.loosen(shrink=0.1, min_log_std=-0.7)
    np.testing.assert_allclose(tight.act(obs, None), 0.1 * mean, rtol=1e-4, atol=1e-8)
    assert torch.allclose(tight.log_std, torch.tensor(-0.7))


@pytest.mark.parametrize(("trained", "shrink", "floor"), [(-1.0, 1, -1.0), (-3.4, 0.1, -0.7)])
def test_by_default_a_skill_that_is_kept_keeps_its_noise(
    cheetah_policy: Policy, trained: float, shrink: float, floor: float
) -> None:
    tight = copy.deepcopy(cheetah_policy)
    with torch.no_grad():
        tight.log_std.fill_(trained)
    tight.loosen(shrink, None)
    assert torch.allclose(tight.log_std, torch.tensor(floor))


def test_predict_takes_pictures_and_flattened_dicts() -> None:
    for space in (Box(0, 255, (8, 8, 3), np.uint8), Dict(camera=Box(0, 255, (8, 8), np.uint8), arm=Box(-1, 1, (2,)))):
        space.seed(0)
        packed, pack = packing(space)
        policy = Policy(Spaces.of(packed, Discrete(3)), NetConfig((8,)), 0, "X", {})
        obs = space.sample()
        given = obs if isinstance(space, Box) else gymnasium.spaces.flatten(space, obs)
        expected = policy.act(pack(obs)[None], None)[0, 0]
        assert policy.predict(given)[0] == expected and policy.predict(given[None])[0].tolist() == [expected]


def test_predict_is_what_stable_baselines3_has() -> None:
    with closing(gymnasium.make("HalfCheetah-v5")) as env:
        policy = policy_for(Box(-1, 1, (17,), np.float32), env.action_space)
        obs, _ = env.reset(seed=0)
        action, state = policy.predict(obs)
        assert state is None and env.action_space.contains(action)
        batch, _ = policy.predict(np.stack([obs, 0 * obs]))
        np.testing.assert_allclose(batch[0], policy.predict(obs, deterministic=True)[0], rtol=1e-4, atol=1e-5)
        with pytest.raises(UserError, match="give rng"):
            policy.predict(obs, deterministic=False)
        rng = np.random.default_rng(0)
        assert (policy.predict(obs, deterministic=False, rng=rng)[0] != policy.predict(obs)[0]).any()


@pytest.mark.parametrize(
    "action", [Discrete(3), MultiDiscrete([2, 3]), MultiBinary(4), Box(-2, 0.5, (2, 3), np.float32)]
)
def test_predicted_actions_are_of_their_space(action: gymnasium.Space) -> None:
    policy = policy_for(Box(-1, 1, (2, 2), np.float32), action)
    assert action.contains(policy.predict(np.ones((2, 2)))[0])
    assert all(action.contains(one) for one in policy.predict(np.ones((5, 2, 2)))[0])
    for wrong in (np.ones(3), np.ones((2, 3)), {"a": 1}, ["a"], None):
        with pytest.raises(UserError, match=r"observes \(2, 2\)"):
            policy.predict(wrong)  # type: ignore[arg-type]


def policy_for(observation: gymnasium.Space, action: gymnasium.Space) -> Policy:
    policy = Policy(Spaces.of(observation, action), NetConfig(hidden=(8,)), 0, "Test-v0", {})
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.mul_(50)  # beyond the bounds
    return policy


def odd(spaces: Spaces, **options: Any) -> Policy:
    """A policy of other networks than ours are by default, away from where it began, with statistics."""
    policy = Policy(spaces, NetConfig((8, 6), 0.3, **options), 0, "none", {})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    policy.observe(np.random.default_rng(0).normal(1, 3, (50, spaces.obs_size)).astype(spaces.obs_dtype))
    return policy


BOX = Spaces((3,), "box", (2,), (-1.0,) * 2, (1.0,) * 2)
PICTURES = Spaces((10, 10, 3), "discrete", (3,), obs_dtype="uint8")


@pytest.mark.parametrize(
    "spaces, options",
    [
        *((BOX, {"activation": name}) for name in ACTIVATIONS),
        (BOX, {"critic_hidden": ()}),
        (BOX, {"critic_hidden": (5,), "shared": (7, 4), "activation": "relu"}),
        (BOX, {"state_dependent_std": True, "obs_clip": 1.5}),
        (Spaces((3,), "discrete", (2, 3)), {"shared": (7,), "activation": "elu"}),
        (PICTURES, {"separate_encoders": True, "picture_features": 20, "activation": "relu"}),
    ],
)
def test_other_networks_act_as_they_say_and_keep_all_in_a_file(tmp_path: Path, spaces: Spaces, options: dict) -> None:
    policy = odd(spaces, **options)
    obs = np.random.default_rng(1).normal(1, 9, (40, spaces.obs_size)).astype(spaces.obs_dtype)
    features = policy.features(obs)
    with torch.no_grad():
        distribution, value = policy.distribution_and_value(features)
        assert torch.equal(policy.value(features), value)
    mode = distribution.mean.numpy() if spaces.action_kind == "box" else policy.act(obs, None)
    np.testing.assert_allclose(policy.act(obs, None), mode, atol=1e-5)
    policy.save(tmp_path / "p.npz")
    again = load_policy(tmp_path / "p.npz")
    assert again.config == policy.config
    np.testing.assert_array_equal(again.act(obs, np.random.default_rng(2)), policy.act(obs, np.random.default_rng(2)))
    assert torch.equal(again.value(again.features(obs)), value)
    np.testing.assert_array_equal(policy.frozen().act(obs, None), policy.act(obs, None))


def test_a_noise_that_depends_on_the_state_is_sampled_and_has_a_floor() -> None:
    policy = odd(BOX, state_dependent_std=True)
    obs = np.repeat(np.float32([[1, 2, 3], [-2, 0, 1]]), 20_000, 0)
    with torch.no_grad():
        std = policy.distribution(policy.features(obs[::20_000])).log_std.exp().numpy()
    assert not np.allclose(std[0], std[1], rtol=0.1)
    found = policy.act(obs, np.random.default_rng(0)).reshape(2, -1, 2).std(1)
    np.testing.assert_allclose(found, std, rtol=0.03)
    mean = policy.act(obs, None)
    policy.loosen(shrink=0.5, min_log_std=2.5)
    with torch.no_grad():
        assert (policy.distribution(policy.features(obs)).log_std == 2.5).all()
    np.testing.assert_allclose(policy.act(obs, None), mean / 2, rtol=1e-4, atol=1e-6)
    assert policy.act(obs, np.random.default_rng(0)).std() > 10


def test_weights_that_a_file_lacks_make_no_network(tmp_path: Path) -> None:
    state = odd(BOX, shared=(7,), critic_hidden=(5,)).state()
    for name in ("trunk.0.weight", "critic.0.weight"):
        lacking = {k: v for k, v in state["parameters"].items() if k != name}
        with pytest.raises(CorruptFileError, match="not a policy of this version"):
            Policy.from_state({**state, "parameters": lacking})
    with pytest.raises(CorruptFileError, match="not a policy of this version"):
        Policy.from_state({**state, "net": {**state["net"], "critic_hidden": [10**9]}})


def test_pictures_of_floats_are_refused_by_name_unless_they_are_to_be_numbers() -> None:
    floats = Spaces.of(Box(0, 1, (64, 64, 3), np.float32), Discrete(2))
    for encoder in ("auto", "cnn"):
        with pytest.raises(
            UserError, match=r"Mine-v0 shows a picture \(64, 64, 3\) of float32; .* or choose --net.encoder f"
        ):
            Policy(floats, NetConfig((8,), encoder=encoder), 0, "Mine-v0", {})  # type: ignore[arg-type]
    policy = Policy(floats, NetConfig((8,), encoder="flat"), 0, "Mine-v0", {})
    assert policy.encoder.size == 64 * 64 * 3 and Policy.from_state(policy.state()).encoder.size == policy.encoder.size
    camera = Dict(arm=Box(-1, 1, (3,)), camera=Box(0, 1, (3, 40, 40), np.float32))
    with pytest.raises(UserError, match="shows 'camera', a picture"):
        Policy(Spaces.of(packing(camera)[0], Discrete(2)), NetConfig((8,)), 0, "Mine-v0", {})
    table = Spaces.of(Box(0, 1, (10, 10, 4), np.float32), Discrete(2))
    assert Policy(table, NetConfig((8,)), 0, "Mine-v0", {}).encoder.size == 400
