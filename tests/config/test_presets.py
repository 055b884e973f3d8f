import copy
import json
import pickle
from dataclasses import asdict, replace

import gymnasium
import pytest

from rlhf_control.arguments import parse
from rlhf_control.config import PPOConfig, PretrainConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.config.presets import FAST, PRESETS, TUNED, preset
from rlhf_control.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_of_tasks_that_exist(name: str) -> None:
    for env_id in PRESETS[name]:
        config = preset(env_id, name)
        assert env_id in gymnasium.registry and config.env_id == env_id and config.preset == name


def test_every_mujoco_task_is_tuned_and_the_three_of_the_issue_are_fast() -> None:
    assert len(TUNED) == 11 and {"HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"} <= FAST.keys()


def test_unknown_presets() -> None:
    with pytest.raises(UserError, match="did you mean tuned"):
        preset("Hopper-v5", "tune")
    with pytest.raises(UserError, match="no tuned preset for CartPole-v1"):
        preset("CartPole-v1", "tuned")


def test_options_change_a_preset_wherever_they_stand() -> None:
    for arguments in (["Hopper-v5", "--preset", "tuned", "--ppo.lr", "1e-5"],
                      ["--ppo.lr", "1e-5", "--preset", "tuned", "Hopper-v5"]):  # fmt: skip
        config = parse(PretrainConfig, "pretrain", arguments)
        expected = preset("Hopper-v5", "tuned")
        assert config == replace(expected, ppo=replace(expected.ppo, lr=1e-5))
    assert parse(PretrainConfig, "pretrain", ["Hopper-v5"]) == PretrainConfig("Hopper-v5")


def test_arguments_of_the_environment_join_the_presets() -> None:
    config = parse(PretrainConfig, "pretrain", ["Ant-v5", "--preset", "tuned", "--env", "ctrl_cost_weight", "0.1"])
    assert config.env == {**preset("Ant-v5", "tuned").env, "ctrl_cost_weight": 0.1}
    changed = ["Ant-v5", "--preset", "tuned", "--env", "include_cfrc_ext_in_observation", "True"]
    assert parse(PretrainConfig, "pretrain", changed).env == {"include_cfrc_ext_in_observation": True}


def test_a_presets_name_alone_is_refused_from_python() -> None:
    """It would be recorded, but not used."""
    with pytest.raises(UserError, match=r"start from rlhf_control.config.presets.preset\(env_id, 'fast'\)"):
        PretrainConfig("HalfCheetah-v5", preset="fast")
    with pytest.raises(UserError, match="would not have the preset's hyperparameters"):
        PretrainConfig("HalfCheetah-v5", 300_000, preset="fast", ppo=PPOConfig(lr=1e-3))
    fast = preset("HalfCheetah-v5", "fast")
    assert replace(fast, seed=3).ppo == fast.ppo and copy.deepcopy(fast) == pickle.loads(pickle.dumps(fast)) == fast
    assert from_dict(PretrainConfig, json.loads(json.dumps(asdict(fast)))) == fast
