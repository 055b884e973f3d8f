"""What other libraries make of what is written for them, by themselves."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlhf_control.cli import main
from rlhf_control.config import NetConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.environments import environment
from rlhf_control.interop.export import export
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from tests.interop.shown_env import Shown, samples


def made(kind: str, **net: Any) -> Policy:
    """A policy away from where it began, with statistics."""
    policy = Policy(environment("Shown-v0", {"kind": kind}).spaces, NetConfig(**net), 0, "Shown-v0", {"kind": kind})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    seen = samples(kind)[1]
    policy.observe(seen * 2 + 1 if seen.dtype.kind == "f" else seen)  # pictures beside numbers are bytes
    return policy


def seeing() -> Policy:
    spaces = environment("Shown-v0", {"kind": "picture"}).spaces
    return Policy(spaces, NetConfig((8,)), 0, "Shown-v0", {"kind": "picture"})


def executed(policy: Policy, obs: np.ndarray) -> np.ndarray:
    action = policy.act(obs, None)
    return policy.spaces.execute(action) if policy.spaces.action_kind == "box" else action


@pytest.mark.parametrize(
    "kind, net",
    [
        ("box", {"hidden": (8, 6)}),
        ("discrete", {"hidden": (8,), "activation": "relu", "critic_hidden": (5,)}),
        ("multi-binary", {"hidden": (6,), "shared": (7,)}),
        ("dict", {"hidden": ()}),
    ],
)
def test_stable_baselines3_acts_equally(tmp_path: Path, kind: str, net: dict) -> None:
    policy = made(kind, **net)
    written = export(policy, "sb3", tmp_path / "m.zip")
    assert [path.name for path in written] == ["m.zip", "m.obs_norm.npz", "m.vecnormalize.pkl"]
    model = PPO.load(tmp_path / "m.zip", device="cpu")
    _, obs = samples(kind)
    env = DummyVecEnv([lambda: gymnasium.wrappers.FlattenObservation(Shown(kind))])
    v = VecNormalize.load(str(tmp_path / "m.vecnormalize.pkl"), env)
    theirs, _ = model.predict(v.normalize_obs(obs), deterministic=True)
    ours = executed(policy, obs)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        seen, taken = torch.from_numpy(v.normalize_obs(obs)).float(), policy.act(obs, np.random.default_rng(0))
        given = torch.from_numpy(taken if len(policy.spaces.choices) != 1 else taken[:, 0]).float()
        value, log_prob, _ = model.policy.evaluate_actions(seen, given)
        found = policy.distribution(policy.features(obs)).log_prob(torch.from_numpy(taken))
        torch.testing.assert_close(found, log_prob, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(policy.value(policy.features(obs)), value[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind, net",
    [
        ("box", {"hidden": (8,), "activation": "silu", "state_dependent_std": True}),
        ("multi-discrete", {"shared": (7,), "hidden": (8,)}),
        ("discrete", {"hidden": ()}),
    ],
)
def test_torchscript_acts_equally(tmp_path: Path, kind: str, net: dict) -> None:
    policy = made(kind, **net)
    export(policy, "torchscript", tmp_path / "p.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(tmp_path / "p.pt")
    _, obs = samples(kind)
    np.testing.assert_allclose(module(torch.from_numpy(obs)).numpy(), executed(policy, obs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_cleanrl_goes_out_and_in(tmp_path: Path, kind: str) -> None:
    policy = made(kind, hidden=(64, 64), shared=(16,))
    model, stats = export(policy, "cleanrl", tmp_path / "p.cleanrl_model")
    again = find_policy(model, "Shown-v0", env={"kind": kind}, obs_stats=stats)
    _, obs = samples(kind)
    np.testing.assert_allclose(executed(again, obs), executed(policy, obs), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for name in ("distribution", "value"):
            ours, theirs = (getattr(each, name)(each.features(obs)) for each in (policy, again))
            if name == "value":
                torch.testing.assert_close(ours, theirs)
            else:
                torch.testing.assert_close(ours.kl(theirs), torch.zeros(len(obs)), rtol=0, atol=1e-5)


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for to in ("sb3", "cleanrl"):
        with pytest.raises(UserError, match="noise"):
            export(made("box", state_dependent_std=True), to, tmp_path / "x")
    picture = Policy(
        environment("Shown-v0", {"kind": "picture"}).spaces, NetConfig(), 0, "Shown-v0", {"kind": "picture"}
    )
    for to in ("cleanrl", "torchscript"):
        with pytest.raises(UserError, match="pictures"):
            export(picture, to, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text("seeds = '0-4'")
    for to in ("npz", "sb3", "cleanrl", "torchscript"):
        with pytest.raises(UserError, match=rf"sweep.toml is there, and no \*\..* file, as --to {to} writes"):
            export(made("box"), to, tmp_path / "sweep.toml")
    assert (tmp_path / "sweep.toml").read_text() == "seeds = '0-4'"


def test_pictures_go_to_stable_baselines3(tmp_path: Path) -> None:
    policy = Policy(
        environment("Shown-v0", {"kind": "picture"}).spaces, NetConfig((8,)), 0, "Shown-v0", {"kind": "picture"}
    )
    export(policy, "sb3", tmp_path / "m.zip")
    model = PPO.load(tmp_path / "m.zip", device="cpu")
    raw, packed = samples("picture", 8)
    seen, _ = model.policy.obs_to_tensor(raw)
    with torch.no_grad():
        theirs = model.policy.get_distribution(seen).distribution.logits
        torch.testing.assert_close(
            policy.distribution(policy.features(packed)).log_p()[0], theirs, rtol=1e-4, atol=1e-5
        )


def test_pictures_beside_numbers_go_to_stable_baselines3(tmp_path: Path) -> None:
    policy = made("mixed", hidden=(8,), separate_encoders=True, picture_features=24)
    export(policy, "sb3", tmp_path / "m.zip")
    model = PPO.load(tmp_path / "m.zip", device="cpu")
    v = VecNormalize.load(str(tmp_path / "m.vecnormalize.pkl"), DummyVecEnv([lambda: Shown("mixed")]))
    raw, packed = samples("mixed", 16)
    seen, _ = model.policy.obs_to_tensor(v.normalize_obs(raw))
    with torch.no_grad():
        theirs, ours = model.policy.get_distribution(seen).distribution, policy.distribution(policy.features(packed))
        torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.log_std.exp().expand(16, 2), theirs.stddev, rtol=1e-5, atol=1e-5)
        value = policy.value(policy.features(packed))
        torch.testing.assert_close(value, model.policy.predict_values(seen)[:, 0], rtol=1e-4, atol=1e-4)
    again = find_policy(tmp_path / "m.zip", "Shown-v0", env={"kind": "mixed"},
                        obs_stats=tmp_path / "m.vecnormalize.pkl", trust=True)  # fmt: skip
    np.testing.assert_allclose(again.act(packed, None), policy.act(packed, None), rtol=1e-4, atol=1e-4)


def test_pictures_that_stable_baselines3_cannot_see_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="36 pixels a side"):
        export(made("small-picture"), "sb3", tmp_path / "m.zip")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "halfcheetah", "--to", "torchscript", "--out", str(tmp_path / "p.pt")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "p.pt")
    assert (tmp_path / "p.pt").is_file()
