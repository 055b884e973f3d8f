import base64
import io
import json
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C
from stable_baselines3 import PPO as SB3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlhf_control.errors import UserError
from rlhf_control.interop.sb3_baseline import make_sb3
from rlhf_control.interop.sb3_policies import export_sb3, import_sb3
from tests.interop.sb3_models import (
    CreatesAFile,
    assert_same_actions,
    clear_cut,
    config,
    observations,
    rewritten,
)


def test_import_from_the_file(trained, tmp_path):
    settings, _, _, model, vec_normalize = trained
    model.save(tmp_path / "model.zip")
    rms = vec_normalize.obs_rms
    np.savez(tmp_path / "norm.npz", mean=rms.mean, var=rms.var, count=rms.count)
    obs, live = observations(settings.env_id), import_sb3(model, settings.env_id)
    for statistics in (vec_normalize, tmp_path / "norm.npz", str(tmp_path / "norm.npz")):
        policy = import_sb3(tmp_path / "model.zip", settings.env_id, vec_normalize=statistics)
        for name, tensor in policy.state_dict().items():
            assert torch.equal(tensor, live.state_dict()[name]), name
        assert_same_actions(policy, model, obs, vec_normalize)
    assert_same_actions(import_sb3(str(tmp_path / "model.zip"), settings.env_id), model, obs, None)


def test_the_import_shares_no_memory_with_the_model(trained):
    settings, _, _, model, vec_normalize = trained
    policy = import_sb3(model, settings.env_id)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    mean = vec_normalize.obs_rms.mean.copy()
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            tensor += 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())
    np.testing.assert_array_equal(vec_normalize.obs_rms.mean, mean)


@pytest.mark.parametrize("kwargs", [{}, {"policy_kwargs": {"net_arch": []}}, {"policy_kwargs": {"log_std_init": -1.0}}])
def test_models_with_sb3s_own_defaults(kwargs, tmp_path):
    for algorithm in (SB3, A2C):
        model = algorithm("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", **kwargs)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        model.save(tmp_path / "model.zip")
        policy = import_sb3(tmp_path / "model.zip", "Pendulum-v1")
        assert_same_actions(policy, model, observations("Pendulum-v1"), None)


@pytest.mark.parametrize(
    "words, env_id, kwargs",
    [
        ("use_sde", "Pendulum-v1", {"use_sde": True}),
        (r"observations Box\(3\), actions Box\(1\), but CartPole-v1 has .*Box\(4,\)", "CartPole-v1", {}),
        ("activation Hardtanh; known: elu", "Pendulum-v1", {"policy_kwargs": {"activation_fn": torch.nn.Hardtanh}}),
    ],
)
def test_models_that_our_policy_cannot_be_are_refused(words, env_id, kwargs, tmp_path):
    model = SB3("MlpPolicy", "Pendulum-v1", device="cpu", **kwargs)
    model.save(tmp_path / "model.zip")
    for source in (model, tmp_path / "model.zip"):
        with pytest.raises(UserError, match=words):
            import_sb3(source, env_id)


def test_data_is_never_unpickled(saved, tmp_path):
    path, data, evil = saved
    for entry in data.values():
        if isinstance(entry, dict):
            entry[":serialized:"] = base64.b64encode(evil).decode()
    data["policy_kwargs"] = {":type:": "dict", ":serialized:": base64.b64encode(evil).decode()}
    rewritten(path, tmp_path / "evil.zip", data=json.dumps(data))
    policy, honest = (import_sb3(p, "Pendulum-v1") for p in (tmp_path / "evil.zip", path))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), honest.parameters(), strict=True))
    rewritten(path, tmp_path / "raw.zip", data=evil)
    with pytest.raises(UserError, match="cannot read"):
        import_sb3(tmp_path / "raw.zip", "Pendulum-v1")
    assert not (tmp_path / "ran").exists()


def test_malicious_weights_and_statistics_are_refused(saved, tmp_path):
    path, _, evil = saved
    weights = io.BytesIO()
    torch.save({"log_std": CreatesAFile(tmp_path / "ran")}, weights)
    rewritten(path, tmp_path / "evil.zip", policy=weights.getvalue())
    with pytest.raises(UserError, match="cannot read") as refused:
        import_sb3(tmp_path / "evil.zip", "Pendulum-v1")
    assert "\n" not in str(refused.value)
    (tmp_path / "norm.pkl").write_bytes(evil)
    np.savez(tmp_path / "norm.npz", mean=np.array([CreatesAFile(tmp_path / "ran")]), var=1.0, count=1.0)
    for name, words in (("norm.pkl", "could run code"), ("norm.npz", "pickled objects")):
        with pytest.raises(UserError, match=words):
            import_sb3(path, "Pendulum-v1", vec_normalize=tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_damaged_files_are_refused(saved, tmp_path):
    path, data, _ = saved
    content = path.read_bytes()
    flipped = bytearray(content)
    with zipfile.ZipFile(path) as archive:
        flipped[archive.getinfo("policy.pth").header_offset + 2000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(flipped)
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello", "world")
    rewritten(path, tmp_path / "list.zip", data="[]")
    rewritten(path, tmp_path / "text.zip", data=json.dumps({**data, "policy_kwargs": "net"}))
    numbers = io.BytesIO()
    torch.save({"log_std": 1.0}, numbers)
    rewritten(path, tmp_path / "numbers.zip", policy=numbers.getvalue())
    for name in ("flipped", "cut", "empty", "other", "list", "text", "numbers", "absent"):
        with pytest.raises(UserError, match=f"cannot read .*{name}.zip as a Stable-Baselines3 model"):
            import_sb3(tmp_path / f"{name}.zip", "Pendulum-v1")


def test_wrong_statistics_are_refused(saved, tmp_path):
    path, _, _ = saved
    np.savez(tmp_path / "four.npz", mean=np.zeros(4), var=np.ones(4), count=1.0)
    np.savez(tmp_path / "no_count.npz", mean=np.zeros(3), var=np.ones(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, words in (
        ("four.npz", "4 numbers as mean, not 3"),
        ("no_count.npz", "count"),
        ("array.npy", "could run code"),
    ):
        with pytest.raises(UserError, match=words):
            import_sb3(path, "Pendulum-v1", vec_normalize=tmp_path / name)


def test_export_and_back(trained, tmp_path):
    settings, _, _, model, _ = trained
    policy = import_sb3(model, settings.env_id)
    export_sb3(policy, tmp_path / "out.zip")
    again = import_sb3(tmp_path / "out.zip", settings.env_id, vec_normalize=tmp_path / "out.obs_norm.npz")
    assert again.state_dict().keys() == policy.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in policy.state_dict().items())


def test_sb3_loads_an_export_and_trains_on(trained, tmp_path):
    settings, _, _, model, _ = trained
    policy = import_sb3(model, settings.env_id)
    export_sb3(policy, tmp_path / "out.zip")
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make(settings.env_id)]))
    with np.load(tmp_path / "out.obs_norm.npz") as norm:
        env.obs_rms.mean, env.obs_rms.var, env.obs_rms.count = norm["mean"], norm["var"], float(norm["count"])
    theirs = SB3.load(tmp_path / "out.zip", env, device="cpu", n_steps=64)
    assert_same_actions(policy, theirs, observations(settings.env_id), env)
    theirs.learn(64)


def test_an_export_onto_a_folder_says_so(trained, tmp_path):
    settings, _, _, model, _ = trained
    (tmp_path / "taken" / "full").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        export_sb3(import_sb3(model, settings.env_id), tmp_path / "taken")


@pytest.mark.parametrize("kind", ["flat-multi-discrete", "flat-multi-binary"])
def test_policies_with_several_choices_go_in_and_out(kind, tmp_path):
    model = make_sb3(config("Match-v0", env={"kind": kind}))
    model.learn(256)
    vec_normalize = model.get_vec_normalize_env()
    policy = import_sb3(model, "Match-v0", {"kind": kind})
    obs = clear_cut(policy, observations("Match-v0", {"kind": kind}))
    theirs, _ = model.predict(vec_normalize.normalize_obs(obs), deterministic=True)
    np.testing.assert_array_equal(policy.act(obs, None), theirs)
    assert len(np.unique(theirs)) > 1
    taken = torch.from_numpy(policy.act(obs, np.random.default_rng(0)))
    seen = torch.as_tensor(vec_normalize.normalize_obs(obs)).float()
    with torch.no_grad():
        _, log_prob, entropy = model.policy.evaluate_actions(seen, taken.float())
        ours = policy.distribution(policy.features(obs))
    torch.testing.assert_close(ours.log_prob(taken), log_prob, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.entropy(), entropy, rtol=1e-4, atol=1e-4)

    export_sb3(policy, tmp_path / "out.zip")
    again = import_sb3(tmp_path / "out.zip", "Match-v0", {"kind": kind}, tmp_path / "out.obs_norm.npz")
    with torch.no_grad():
        kl = again.distribution(again.features(obs)).kl(ours)
    torch.testing.assert_close(kl, torch.zeros(len(obs)), rtol=0, atol=1e-5)


def test_weights_that_are_not_finite_or_claim_much_are_refused(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    name = next(iter(weights))

    def read_with(change, compression=zipfile.ZIP_STORED):
        file = io.BytesIO()
        torch.save({**weights, **change}, file)
        rewritten(tmp_path / "model.zip", tmp_path / "x.zip", compression, policy=file.getvalue())
        import_sb3(tmp_path / "x.zip", "Pendulum-v1")

    with pytest.raises(UserError, match="not finite"):
        read_with({"mlp_extractor.policy_net.0.weight": weights["mlp_extractor.policy_net.0.weight"] * torch.nan})
    with pytest.raises(UserError, match="claims more numbers"):
        read_with({name: torch.zeros(1).expand(10**9)})
    with pytest.raises(UserError, match="do not follow"):
        read_with({"mlp_extractor.policy_net.2.weight": torch.zeros(10**6, 1)})
    with pytest.raises(UserError, match="claim to unpack to"):
        read_with({"extra": torch.zeros(2**26)}, zipfile.ZIP_DEFLATED)
