"""Fixtures of both files about Stable-Baselines3."""

import json
import pickle
import zipfile

import pytest
from stable_baselines3 import PPO as SB3

from rlhf_control.interop.sb3_baseline import train_sb3
from tests.interop.sb3_models import CreatesAFile, config, new_run

ENVS = ["CartPole-v1", "Pendulum-v1"]


@pytest.fixture(scope="module", params=ENVS)
def trained(request, tmp_path_factory):
    """(config, run, rows handed out, model, its VecNormalize)."""
    settings = config(request.param)
    run = new_run(tmp_path_factory.mktemp("sb3"), settings)
    rows = []
    model = train_sb3(settings, run, rows.append)
    return settings, run, rows, model, model.get_vec_normalize_env()


@pytest.fixture
def saved(tmp_path):
    """An SB3 file, its `data` and a pickle that would leave a folder behind."""
    SB3("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    return tmp_path / "model.zip", data, pickle.dumps(CreatesAFile(tmp_path / "ran"))
