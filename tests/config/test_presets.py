import copy
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium
import pytest

from envs import ARMS  # registers our own games too
from rlhf_control.arguments import parse
from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.config.presets import FAST, PRESETS, TUNED, from_file, preset
from rlhf_control.config.requests import config_of
from rlhf_control.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_of_tasks_that_exist(name: str) -> None:
    for env_id in PRESETS[name]:
        config = preset(env_id, name)
        assert env_id in gymnasium.registry and config.env_id == env_id and config.preset == name


def test_every_mujoco_task_is_tuned_and_the_three_of_the_issue_are_fast() -> None:
    assert sum(env_id.endswith("-v5") for env_id in TUNED) == 11 and ARMS.keys() <= TUNED.keys()
    assert {"HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"} <= FAST.keys()


def test_games_are_seen_as_pixels_or_as_planes() -> None:
    for env_id in ("rlhf/Bricks-v0", "rlhf/Orchard-v0"):
        config = parse(PretrainConfig, "pretrain", [env_id, "--preset", "tuned"])
        planes = parse(PretrainConfig, "pretrain", [env_id, "--preset", "tuned", "--env", "obs", "planes"])
        assert config.env == {"obs": "pixels"} and planes.env == {"obs": "planes"} and planes.ppo == config.ppo


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


def test_what_a_search_of_fine_tuning_left_is_a_preset_too(tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    file.write_text(
        'command = "finetune"\n[options]\npolicy = "other.zip"\nenv_id = "Other-v0"\nobs_stats = "other.npz"\n'
        'trust = true\noracle = "jump"\nlabels = 40\nppo.lr = 1e-4\nreward.hidden = [32, 32]\nreward.members = 3\n'
    )
    given = ["halfcheetah", "--preset", str(file), "--reward.members", "7", "--seed", "4"]
    config = parse(FinetuneConfig, "finetune", given)
    start = parse(FinetuneConfig, "finetune", ["halfcheetah"])
    assert config == replace(
        start, preset=str(file), oracle="jump", labels=40, seed=4, ppo=replace(start.ppo, lr=1e-4),
        reward=replace(start.reward, hidden=(32, 32), members=7),
    )  # fmt: skip
    assert config_of("finetune", {"policy": "halfcheetah", "preset": str(file)}) == from_file(
        FinetuneConfig("halfcheetah"), str(file)
    )
    assert from_dict(FinetuneConfig, json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(UserError, match=r"would not have the preset's hyperparameters; start from .*from_file"):
        FinetuneConfig("halfcheetah", preset=str(file))


def test_presets_of_the_other_command_and_other_files_are_named(tmp_path: Path) -> None:
    found = tmp_path / "found.toml"
    found.write_text('command = "finetune"\n[options]\nlabels = 40\n')
    with pytest.raises(UserError, match="is a preset of finetune, and this is pretrain"):
        preset("Hopper-v5", str(found))
    found.write_text("[options]\nlabel = 40\n")
    with pytest.raises(UserError, match=r"found.toml: unknown option 'label'; did you mean labels"):
        from_file(FinetuneConfig("halfcheetah"), str(found))
    found.write_text("options = 3\n")
    with pytest.raises(UserError, match="options is 3; it is a table"):
        from_file(FinetuneConfig("halfcheetah"), str(found))
    with pytest.raises(UserError, match="finetune takes no preset tuned, but a file"):
        parse(FinetuneConfig, "finetune", ["halfcheetah", "--preset", "tuned"])
