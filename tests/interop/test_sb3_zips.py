"""Files of the real Stable-Baselines3, read without it: the same distributions and values on the same observations."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from tests.interop.shown_env import Shown, samples, saved

RELU, TANH = torch.nn.ReLU, torch.nn.Tanh


def assert_equal(policy: Any, model: Any, kind: str, normalize: Any = None) -> None:
    """Modes, log-probabilities, entropies and values."""
    raw, packed = samples(kind)
    seen = raw if normalize is None else normalize(raw)
    as_tensors, _ = model.policy.obs_to_tensor(seen)
    mode, _ = model.predict(seen, deterministic=True)
    ours = policy.act(packed, None)
    taken = policy.act(packed, np.random.default_rng(0))
    if policy.spaces.action_kind == "box":
        np.testing.assert_allclose(policy.spaces.execute(ours), mode, rtol=1e-4, atol=1e-4)
        assert np.unique(mode.round(3), axis=0).size > 4
    else:
        assert (ours.reshape(mode.shape) == mode).mean() > 0.9  # two may be as good as equal
    with torch.no_grad():
        given = torch.from_numpy(taken if len(policy.spaces.choices) != 1 else taken[:, 0])
        value, log_prob, entropy = model.policy.evaluate_actions(as_tensors, given.float())
        found = policy.distribution(policy.features(packed))
        torch.testing.assert_close(found.log_prob(torch.from_numpy(taken)), log_prob, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.entropy(), entropy, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(policy.value(policy.features(packed)), value[:, 0], rtol=1e-4, atol=1e-4)


def read(path: Path, kind: str, **options: Any) -> Any:
    return find_policy(path, "Shown-v0", env={"kind": kind}, **options)


@pytest.mark.parametrize(
    "kind, kwargs",
    [
        ("box", {}),
        ("box", {"net_arch": [9, 5, 7], "activation_fn": RELU}),
        ("box", {"net_arch": {"pi": [8], "vf": [4, 6]}, "log_std_init": -1.5}),
        ("box", {"net_arch": {"pi": [], "vf": [5]}}),
        ("box", {"net_arch": [], "activation_fn": torch.nn.ELU}),
        ("discrete", {"net_arch": {"pi": [8, 8], "vf": []}, "activation_fn": torch.nn.LeakyReLU}),
        ("multi-discrete", {"net_arch": [8], "activation_fn": torch.nn.SiLU}),
        ("multi-binary", {"net_arch": [8]}),
        ("choice-seen", {"net_arch": [8]}),
    ],
)
def test_mlp_policies(tmp_path: Path, kind: str, kwargs: dict, capsys: pytest.CaptureFixture[str]) -> None:
    algorithm = A2C if kind in ("multi-discrete", "choice-seen") else PPO
    model = saved(tmp_path / "m.zip", kind, algorithm=algorithm, **kwargs)
    assert_equal(read(tmp_path / "m.zip", kind), model, kind)
    said = capsys.readouterr().err
    assert f"is read as {algorithm.__name__} of Stable-Baselines3" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "kind, policy, kwargs",
    [
        ("picture", "CnnPolicy", {}),
        ("channels-first", "CnnPolicy", {"net_arch": [16], "activation_fn": RELU}),
        (
            "picture",
            "CnnPolicy",
            {"features_extractor_kwargs": {"features_dim": 24}, "share_features_extractor": False},
        ),
        ("picture", "MlpPolicy", {"net_arch": [8]}),
        ("picture", "MlpPolicy", {"net_arch": [8], "normalize_images": False}),
        ("dict", "MultiInputPolicy", {"net_arch": [8]}),
        ("mixed", "MultiInputPolicy", {"net_arch": {"pi": [8], "vf": [4, 4]}, "activation_fn": RELU}),
        ("mixed", "MultiInputPolicy", {"features_extractor_kwargs": {"cnn_output_dim": 16}}),
    ],
)
def test_policies_that_see_pictures_and_dicts(tmp_path: Path, kind: str, policy: str, kwargs: dict) -> None:
    model = saved(tmp_path / "m.zip", kind, policy, **kwargs)
    found = read(tmp_path / "m.zip", kind)
    assert_equal(found, model, kind)
    assert_equal(found.from_state(found.state()), model, kind)


def test_statistics_of_a_vec_normalize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "m.zip", "box", net_arch=[8])
    v = VecNormalize(DummyVecEnv([lambda: Shown("box")]), clip_obs=1.5, epsilon=0.3)
    v.obs_rms.update(np.random.default_rng(0).normal(1, 4, (100, 3)))
    np.savez(tmp_path / "stats.npz", clip=v.clip_obs, epsilon=v.epsilon, **vars(v.obs_rms))  # as the README says
    v.save(str(tmp_path / "v.pkl"))
    read(tmp_path / "m.zip", "box")
    assert "raw: it does not say whether" in capsys.readouterr().err
    for file, trust in (("stats.npz", False), ("v.pkl", True)):
        policy = read(tmp_path / "m.zip", "box", obs_stats=tmp_path / file, trust=trust)
        assert_equal(policy, model, "box", v.normalize_obs)
        assert_equal(policy.from_state(policy.state()), model, "box", v.normalize_obs)
    with pytest.raises(UserError, match=r"pickles could run code; make an .npz .* --trust"):
        read(tmp_path / "m.zip", "box", obs_stats=tmp_path / "v.pkl")


def test_statistics_of_a_dict(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.zip", "mixed", "MultiInputPolicy", net_arch=[8])
    v = VecNormalize(DummyVecEnv([lambda: Shown("mixed")]), norm_obs_keys=["v"])
    v.obs_rms["v"].update(np.random.default_rng(0).normal(1, 4, (100, 3)))
    v.save(str(tmp_path / "v.pkl"))
    policy = read(tmp_path / "m.zip", "mixed", obs_stats=tmp_path / "v.pkl", trust=True)
    assert_equal(policy, model, "mixed", v.normalize_obs)


@pytest.mark.parametrize("algorithm, name", [(SAC, "SAC"), (TD3, "TD3 or DDPG"), (DDPG, "TD3 or DDPG"), (DQN, "DQN")])
def test_other_algorithms_are_refused_by_name(tmp_path: Path, algorithm: Any, name: str) -> None:
    kind = "discrete" if algorithm is DQN else "box"
    algorithm("MlpPolicy", Shown(kind), buffer_size=10, policy_kwargs={"net_arch": [4]}).save(tmp_path / "m.zip")
    with pytest.raises(UserError, match=f"m.zip is {name} of Stable-Baselines3; only policies of PPO and A2C"):
        read(tmp_path / "m.zip", kind)


def test_other_policy_classes_and_extractors_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path / "m.zip", "box", net_arch=[4])

    def edited(**changes: Any) -> None:
        with zipfile.ZipFile(tmp_path / "m.zip") as old, zipfile.ZipFile(tmp_path / "x.zip", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
                if name == "data":
                    new.filelist.pop()
                    del new.NameToInfo["data"]
                    new.writestr("data", json.dumps(json.loads(old.read("data")) | changes))

    edited(policy_class={"__module__": "sb3_contrib.common.maskable.policies"})
    with pytest.raises(UserError, match="is MaskablePPO of"):
        read(tmp_path / "x.zip", "box")
    edited(policy_class={"__module__": "mine"})
    with pytest.raises(UserError, match="a policy class of its own, of mine"):
        read(tmp_path / "x.zip", "box")
    edited(policy_kwargs={"features_extractor_class": "<class 'mine.Eyes'>"})
    with pytest.raises(UserError, match=r"features extractor .*mine\.Eyes"):
        read(tmp_path / "x.zip", "box")


def test_a_policy_for_other_spaces_shows_both_sides(tmp_path: Path) -> None:
    saved(tmp_path / "m.zip", "discrete", net_arch=[4])
    saved(tmp_path / "p.zip", "picture", "CnnPolicy")
    with pytest.raises(UserError, match=r"observations Box\(3\), actions Discrete\(3\), but Shown-v0 has .*Box\(2,\)"):
        read(tmp_path / "m.zip", "box")
    for path, kind in (("p.zip", "box"), ("p.zip", "channels-first"), ("m.zip", "picture"), ("m.zip", "dict")):
        with pytest.raises(UserError, match="but Shown-v0 has"):
            read(tmp_path / path, kind)


def test_layers_that_both_begin_with_as_before_version_1_8(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.zip", "box", net_arch=[8, 6])
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        entries = {name: archive.read(name) for name in archive.namelist()}
    shared = {
        name.replace("policy_net.0", "shared_net.0"): w for name, w in weights.items() if "value_net.0" not in name
    }
    shared = {name.replace("_net.2", "_net.0"): w for name, w in shared.items()}
    buffer = io.BytesIO()
    torch.save(shared, buffer)
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        for name, content in {**entries, "policy.pth": buffer.getvalue()}.items():
            archive.writestr(name, content)
    policy = read(tmp_path / "old.zip", "box")
    assert policy.config.shared == (8,) and policy.config.hidden == (6,)
    _, packed = samples("box")
    np.testing.assert_allclose(
        policy.act(packed, None), model.policy.get_distribution(torch.from_numpy(packed)).mode().detach(), atol=1e-5
    )


def test_reading_needs_no_stable_baselines3(tmp_path: Path) -> None:
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "m.zip")
    code = (
        "import sys; sys.modules['stable_baselines3'] = None; from rlhf_control import find_policy; "
        "find_policy(sys.argv[1], 'CartPole-v1')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.zip")], check=True, capture_output=True)
