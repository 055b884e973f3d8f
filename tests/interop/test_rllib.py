"""Checkpoints of the real RLlib (tests/data/rllib, with the script that made them), read without it."""

import base64
import io
import pickle
import shutil
import zlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.interop.rllib import FILTER, MODULE, unpacked
from rlhf_control.nets.policy import Policy
from rlhf_control.train import finetune

DATA = Path(__file__).parent.parent / "data" / "rllib"
ENVS = {"pendulum": "Pendulum-v1", "free": "Pendulum-v1", "cartpole": "CartPole-v1"}


def answers(name: str) -> Any:
    with np.load(DATA / name / "answers.npz") as found:
        return found["obs"], torch.from_numpy(found["outputs"]), found["values"]


def found(name: str, **options: Any) -> tuple[Policy, Any, Any]:
    policy = find_policy(DATA / name, ENVS[name], **options)
    obs = answers(name)[0]
    with torch.no_grad():
        features = policy.features(obs)
        return policy, policy.distribution(features), policy.value(features).numpy()


@pytest.mark.parametrize("name", ["pendulum", "free"])
def test_actions_are_rllibs_brought_to_the_bounds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    policy, ours, values = found(name)
    _, outputs, theirs = answers(name)
    np.testing.assert_allclose(values, theirs, rtol=1e-4, atol=1e-5)
    mean, log_std = outputs.chunk(2, -1)
    torch.testing.assert_close(ours.mean, -2 + (mean + 1) * (2 - -2) / 2, rtol=1e-4, atol=1e-5)
    normal = torch.distributions.Normal(mean, log_std.exp())
    action = normal.sample()
    log_prob = normal.log_prob(action).sum(-1) - np.log(2)  # a stretches to 2 a
    torch.testing.assert_close(ours.log_prob(2 * action), log_prob, rtol=1e-3, atol=1e-4)
    assert policy.config.state_dependent_std == (name == "pendulum")
    said = capsys.readouterr().err
    assert "read as PPO of RLlib 2.60.0, tanh, " in said
    assert ("normalised by its MeanStdFilter" in said) == (name == "pendulum") == bool(policy.obs_norm.count)


def test_choices_and_layers_in_common() -> None:
    policy, ours, values = found("cartpole")
    _, outputs, theirs = answers("cartpole")
    torch.testing.assert_close(ours.logits, outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values, theirs, rtol=1e-4, atol=1e-5)
    assert policy.config.shared == (8,) and policy.config.activation == "relu" and not policy.config.hidden


def test_the_module_alone_lacks_the_filter(capsys: pytest.CaptureFixture[str]) -> None:
    policy = find_policy(DATA / "pendulum" / MODULE, "Pendulum-v1")
    assert policy.obs_norm.count == 0 and "raw: it has no MeanStdFilter" in capsys.readouterr().err


def test_finetuning_goes_on_from_it(tiny_config: FinetuneConfig) -> None:
    config = replace(tiny_config, policy=str(DATA / "pendulum"), env_id="Pendulum-v1", oracle="env", clip_seconds=0.5)
    run = finetune(config)
    end, start = find_policy(run.path), find_policy(run.path / "pretrained.npz")
    assert end.config.state_dependent_std and not end.acts_as(start) and end.obs_norm.count > start.obs_norm.count
    assert all(np.isfinite(row["kl_start"]) for row in run.metrics())


class Named:
    """Is no part of such a file."""


def test_what_is_no_such_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words) as error:
            find_policy(tmp_path / "c", "Pendulum-v1")
        assert "\n" not in str(error.value)

    shutil.copytree(DATA / "pendulum", tmp_path / "c")
    state = tmp_path / "c" / MODULE / "module_state.pkl"
    weights: dict[str, Any] = pickle.loads(state.read_bytes())
    for change, words in (
        (
            {"x": Named()},
            r"cannot read .* as a checkpoint of RLlib's PPO: it asks for tests\.interop\.test_rllib\.Named",
        ),
        ({"pi.net.mlp.0.bias": np.full(2, np.nan, np.float32)}, "not finite"),
        ({"encoder.actor_encoder.net.cnn.0.weight": np.ones(2, np.float32)}, "only PPO's fully connected"),
        ({"encoder.actor_encoder.net.mlp.0.weight": np.ones((8, 4), np.float32)}, "but Pendulum-v1 has"),
        ({"encoder.actor_encoder.net.mlp.9.weight": np.ones((8, 4), np.float32)}, r"cannot read .*mlp\.9\.bias"),
    ):
        state.write_bytes(pickle.dumps(OrderedDict({**weights, **change}), 5))
        refused(words)
    state.write_bytes(pickle.dumps(weights, 5))
    filters = tmp_path / "c" / FILTER
    whole = pickle.loads(filters.read_bytes())
    whole[None]["running_stats"][0]["mean_array"] = packed(np.zeros(4))
    filters.write_bytes(pickle.dumps(whole, 5))
    refused("4 numbers as mean, not 3")
    state.unlink()
    refused("there is no ")
    shutil.rmtree(tmp_path / "c")
    shutil.copytree(DATA / "free", tmp_path / "c")
    (tmp_path / "c" / MODULE / "class_and_ctor_args.pkl").write_bytes(pickle.dumps({"class": Named}, 5))
    refused("it asks for .*Named")


def packed(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def test_arrays_as_text() -> None:
    np.testing.assert_array_equal(unpacked(packed(np.arange(5.0))), np.arange(5.0))
    claims = np.zeros(3)
    whole = zlib.decompress(base64.b64decode(packed(claims)))
    for wrong in ("?", packed(np.array(["a"])), base64.b64encode(zlib.compress(whole[:-8])).decode()):
        with pytest.raises(ValueError):
            unpacked(wrong)
