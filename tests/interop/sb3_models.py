"""Models of Stable-Baselines3, and what they and our policies say of the same observations."""

import os
import zipfile
from dataclasses import replace

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize

from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.data import Array
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.run import Run
from rlhf_control.simulation.vector import start_envs

SMALL = PPOConfig(num_envs=4, num_steps=64, minibatch_size=64, epochs=2, lr=1e-2)


def config(env_id: str, **changes) -> PretrainConfig:
    return replace(PretrainConfig(env_id, total_steps=1024, net=NetConfig((16, 8)), ppo=SMALL), **changes)


def new_run(path, config) -> Run:
    return Run.create(path / "run", "pretrain", config)


def observations(env_id: str, env: dict | None = None) -> Array:
    """(200, O), from likely to absurd: beyond the clip at ten standard deviations."""
    envs = start_envs(env_id, 1, seed=0, backend="gymnasium", env=env)
    envs.close()
    rng = np.random.default_rng(0)
    return (rng.normal(size=(200, envs.spaces.obs_size)) * np.geomspace(0.1, 100, 200)[:, None]).astype(np.float32)


def executed(policy: Policy, obs: Array) -> Array:
    """As SB3's predict gives it: clipped to the bounds."""
    action = policy.act(obs, None)
    return action[:, 0] if policy.spaces.choices else policy.spaces.execute(action)


def clear_cut(policy: Policy, obs: Array) -> Array:
    """The observations but those where two options are as good as equal, so that the last bit of a product decides."""
    if not policy.spaces.choices:
        return obs
    with torch.no_grad():
        logits = policy.distribution(policy.features(obs)).logits.split(policy.spaces.choices, -1)
    best = [choice.topk(2, -1).values for choice in logits if choice.shape[-1] > 1]
    kept = torch.stack([pair[:, 0] - pair[:, 1] > 1e-4 for pair in best]).all(0).numpy()
    assert kept.mean() > 0.8
    return obs[kept]


def assert_same_actions(policy: Policy, model, obs: Array, vec_normalize: VecNormalize | None) -> None:
    obs = clear_cut(policy, obs)
    seen = vec_normalize.normalize_obs(obs) if vec_normalize else obs
    theirs, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(executed(policy, obs), theirs, rtol=1e-5, atol=1e-6)
    assert len(np.unique(theirs.round(3))) > 1  # an actor that says always the same would prove nothing
    with torch.no_grad():
        values = model.policy.predict_values(torch.as_tensor(seen)).flatten()
        torch.testing.assert_close(policy.value(policy.features(obs)), values, rtol=1e-5, atol=1e-5)


class CreatesAFile:
    """Unpickling one runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewritten(source, target, compression=zipfile.ZIP_STORED, **entries) -> None:
    """A copy of a zip with some entries replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, entries.get(name.partition(".")[0], old.read(name)))
